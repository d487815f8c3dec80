"""Finds the tokens with which a chat template closes an assistant turn: what a trained model writes at its end."""

from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.chat.turns import END, find_assistant_turn


def closing_tokens(tokenizer: ChatTokenizer) -> list[int]:
    """Returns the ids of the special tokens behind the content of an assistant turn; none if it has no marker.

    Raises:
        ConversationError: the template refuses a question with an answer, or does not show where a turn ends.
    """
    turn = find_assistant_turn(
        tokenizer, [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": END}], None
    )
    ids, offsets = tokenizer.encode(turn.text[: turn.place.end])
    behind = turn.text.rindex(END) + len(END)
    return [
        number
        for number, (start, _) in zip(ids, offsets, strict=True)
        if start >= behind and number in tokenizer.special_token_ids
    ]
