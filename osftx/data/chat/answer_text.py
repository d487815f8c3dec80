"""The text of an answer, without what the chat template writes into an assistant turn before its content.

A template may open a turn with an empty block of reasoning (`<think></think>`) or name a channel
(`<|channel|>final<|message|>`), and a model writes its reasoning there. Behind it the content begins, which is what is
compared with a reference.
"""

from collections.abc import Sequence

from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError
from osftx.data.chat.turns import END, find_assistant_turn


class AnswerText:
    """Turns the token ids of an answer into the text of its content."""

    def __init__(self, tokenizer: ChatTokenizer):
        self._tokenizer = tokenizer
        opening = _opening(tokenizer)
        last = opening.split()[-1:]
        self._marks = [mark for mark in dict.fromkeys([opening, *last]) if mark]
        """Texts behind which the content begins, the surest first."""

    def __call__(self, ids: Sequence[int]) -> str:
        """Returns the content behind the last mark, without special tokens and without white space around it."""
        text = self._tokenizer.decode(ids)
        ends = (text.rindex(mark) + len(mark) for mark in self._marks if mark in text)
        begins = next(ends, 0)
        start = 0
        while begins and len(self._tokenizer.decode(ids[:start])) < begins:
            start += 1
        return self._tokenizer.text(ids[start:]).strip()


def _opening(tokenizer: ChatTokenizer) -> str:
    """Returns what the template writes between the generation prompt and the content of an answer."""
    try:
        turn = find_assistant_turn(
            tokenizer, [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": END}], None
        )
    except ConversationError:
        return ""
    return turn.text[turn.place.start : turn.text.rindex(END)].strip()
