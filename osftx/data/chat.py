"""Tokens and loss mask of one conversation.

Loss is counted on what the model itself has to write: every assistant turn, from the first token after the
generation prompt through the token that ends the turn (not the newline that the template puts behind it).

The mask is found without knowing the template. For an assistant turn `i`, the text of `messages[:i]` with the
generation prompt is where the turn begins, the text of `messages[:i + 1]` is where it ends, and both must be
literal beginnings of the text of the whole conversation. A template for which they are not rewrites earlier
turns when later ones arrive (it drops their reasoning, say): then no mask over the whole text is true for
every turn, and the sample is refused rather than approximated.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from osftx.config import TrainOn
from osftx.data.conversation import Conversation
from osftx.data.tokenizer import ChatTokenizer, ConversationError, Message, Offsets

KEYS = ("role", "content")


@dataclass(frozen=True)
class EncodedConversation:
    """One training sample of any length."""

    input_ids: list[int]
    """Token ids of the whole conversation, (tokens,)."""
    counted: list[bool]
    """Whether loss is counted on predicting this token, (tokens,)."""


@dataclass(frozen=True)
class _Turn:
    """An assistant turn as a half-open range of characters of the whole text."""

    number: int
    """Place of the message in the conversation, from 1: for error messages."""
    start: int
    """Just after the generation prompt."""
    content_end: int
    """Just after the last character of the content that is not white space."""
    end: int
    """Just before what the template writes for the next turn, or to close the whole text."""
    closing_end: int
    """Just after what the template writes to close the whole text, if this is the last turn; else `end`."""


def encode_conversation(
    tokenizer: ChatTokenizer, conversation: Conversation, train_on: TrainOn = TrainOn.assistant
) -> list[EncodedConversation]:
    """Tokenise a conversation and mark the tokens on which loss is counted.

    Raises:
        ConversationError: it asks for what is not supported, or see `encode_messages`.
    """
    if train_on is not TrainOn.assistant:
        raise ConversationError(f"train_on={train_on.value} is not supported; use assistant")
    if conversation.tools:
        raise ConversationError("has `tools`, which are not supported; remove the conversations that use tools")
    for number, message in enumerate(conversation.messages, 1):
        if message["role"] in ("tool", "pretraining"):
            raise ConversationError(
                f"message {number} has the role {message['role']}, which is not supported; remove it"
            )
    return [encode_messages(tokenizer, conversation.messages)]


def encode_document(tokenizer: ChatTokenizer, text: str) -> EncodedConversation:
    """Tokenise a text, all of which counts, and close it with the end-of-sequence token.

    Raises:
        ConversationError: the tokenizer has no such token.
    """
    if tokenizer.eos_token_id is None:
        raise ConversationError(
            "the tokenizer has no eos_token to close a document with; name one in its configuration"
        )
    ids = [*tokenizer.encode(text)[0], tokenizer.eos_token_id]
    return EncodedConversation(ids, [True] * len(ids))


def encode_messages(tokenizer: ChatTokenizer, messages: Sequence[Mapping[str, Any]]) -> EncodedConversation:
    """Tokenise a conversation and mark the tokens on which loss is counted.

    Args:
        tokenizer: the model's tokenizer and chat template.
        messages: turns with the keys `role` and `content`, both text; other keys must be null.

    Raises:
        ConversationError: a message carries more than role and content, or the template does not show beyond
            doubt which part of the text the assistant wrote.
    """
    turns = [_role_and_content(number, message) for number, message in enumerate(messages, 1)]
    text = tokenizer.render(turns)
    ids, offsets = tokenizer.encode(text)
    counted = [False] * len(ids)
    for index, message in enumerate(turns):
        if message["role"] == "assistant":
            turn = _locate(tokenizer, text, turns, index)
            first, stop = _counted_tokens(tokenizer, text, ids, offsets, turn)
            counted[first:stop] = [True] * (stop - first)
    return EncodedConversation(ids, counted)


def _role_and_content(number: int, message: Mapping[str, Any]) -> Message:
    """The message without its null entries; a template may read any key, so none is dropped in silence."""
    extra = sorted(key for key, value in message.items() if key not in KEYS and value is not None)
    if extra:
        raise ConversationError(
            f"message {number} has the keys {', '.join(extra)}; only role and content are supported: "
            "remove them, or write their text into content"
        )
    return {"role": message["role"], "content": message["content"]}


def _locate(tokenizer: ChatTokenizer, text: str, messages: list[Message], index: int) -> _Turn:
    """Find an assistant turn in the text of the whole conversation."""
    number = index + 1
    opening = tokenizer.render(messages[:index], add_generation_prompt=True)
    if not text.startswith(opening):
        raise ConversationError(
            f"message {number}: the chat template writes this turn, or one before it, otherwise than when "
            "the model is asked for it; end the conversation before this turn, or use another template"
        )
    ending = text if number == len(messages) else tokenizer.render(messages[:number])
    if tokenizer.eos_token and ending.endswith(tokenizer.eos_token):
        # Templates such as Phi's close the whole text, not a turn, with one end-of-sequence token: it is not
        # there when the text goes on.
        longer = text if number < len(messages) else tokenizer.render(messages, add_generation_prompt=True)
        if not longer.startswith(ending):
            ending = ending.removesuffix(tokenizer.eos_token)
    if not text.startswith(ending) or len(ending) <= len(opening):
        raise ConversationError(
            f"message {number}: the chat template rewrites this turn, or one before it, when later turns "
            "follow; end the conversation with this turn, or use another template"
        )
    start, end = len(opening), len(ending)
    return _Turn(
        number=number,
        start=start,
        content_end=_content_end(text, start, end, messages[index]["content"], number),
        end=end,
        closing_end=len(text) if number == len(messages) else end,
    )


def _content_end(text: str, start: int, end: int, content: str, number: int) -> int:
    """Where the content stops; templates may trim it, but not change it."""
    content = content.strip()
    first = end - len(text[start:end].lstrip())
    if not text.startswith(content, first, end):  # the template writes something before the content
        first = text.rfind(content, start, end)
    if first < 0:
        raise ConversationError(
            f"message {number}: the chat template does not write the content as it stands (it takes out or "
            "changes a part, such as reasoning between tags); write the content as the template does, or use "
            "another template"
        )
    return first + len(content)


def _counted_tokens(
    tokenizer: ChatTokenizer, text: str, ids: list[int], offsets: Offsets, turn: _Turn
) -> tuple[int, int]:
    """The half-open range of tokens on which loss is counted in one turn.

    The turn ends with the first special token behind the content, and those that follow it at once. A turn
    without one ends with the token that closes the whole text, if it is the last, else with its last
    character that is not white space.

    A token may stand for characters on both sides of a border ("." and the newline behind it, a newline of
    the template and one of the content). It is counted, since nothing else would teach the model its part of
    the content; if it holds more than white space of somebody else's, the sample is refused.
    """
    first = bisect_right(offsets, turn.start, key=_last_character)
    if offsets[first][0] < turn.start and ids[first] in tokenizer.special_token_ids:
        first += 1  # a special token of the template that swallows the white space behind it (`rstrip`)

    content_stop = bisect_left(offsets, turn.content_end, key=_first_character)
    turn_stop = bisect_left(offsets, turn.end, key=_first_character)
    closing_stop = bisect_left(offsets, turn.closing_end, key=_first_character)
    special = [i for i in range(content_stop, closing_stop) if ids[i] in tokenizer.special_token_ids]
    if special:
        stop = special[0] + 1
        while stop in special and stop < turn_stop:
            stop += 1
        behind = "".join(text[slice(*offsets[i])] for i in range(stop, turn_stop) if i not in special)
        if behind.strip():
            raise ConversationError(
                f"message {turn.number}: the chat template writes {behind.strip()!r} behind the end of the "
                "turn; use another template"
            )
    else:
        trimmed_end = turn.start + len(text[turn.start : turn.end].rstrip())
        stop = bisect_left(offsets, trimmed_end, key=_first_character)

    foreign = text[offsets[first][0] : turn.start] + text[turn.closing_end : offsets[stop - 1][1]]
    if foreign.strip():
        raise ConversationError(
            f"message {turn.number}: one token holds both text of this turn and {foreign!r} of the template; "
            "use a template with a special token or a newline between turns"
        )
    return first, stop


def _first_character(offset: tuple[int, int]) -> int:
    return offset[0]


def _last_character(offset: tuple[int, int]) -> int:
    return offset[1]
