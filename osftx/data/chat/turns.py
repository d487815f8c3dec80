"""Finds the turns of a conversation in the text that a chat template makes of it.

The places are found without knowledge of the template. When the model is asked for an assistant turn, its input is the
text of the messages before the turn with the generation prompt; the turn begins after that. It ends where the text of
the messages up to and including it ends, except for what the template writes to close the text. How a template closes
is observed on a probe, the same conversation with a mark as content.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from osftx.data.chat.template_checks import check_turn_is_written
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError, Message, Tools

# Private-use characters: no template looks for them, and no conversation holds three of them in a row.
BEGIN = "".join(map(chr, (0xF5B2E, 0x10A0C1, 0xF3D97)))
END = "".join(map(chr, (0xF71D3, 0x10C4E9, 0xF1A68)))


class UncertainOpeningError(ConversationError):
    """Raised if the template does not show where an assistant turn begins before which there is no other turn."""


@dataclass(frozen=True)
class Range:
    """A half-open range of characters of a text, and whether its last token must be a special one."""

    start: int
    end: int
    ends_with_special: bool = False


@dataclass(frozen=True)
class AssistantTurn:
    """An assistant turn in the text of a conversation: what the model has to write after its input."""

    text: str
    """Text up to the end of the turn, without what disappears when the conversation continues."""
    place: Range
    """Range from the end of the generation prompt through the end of the turn."""

    def stands_in(self, text: str) -> bool:
        """Returns whether `text` shows the turn, and all before it, as the model sees it when it writes the turn."""
        return text.startswith(self.text)


@dataclass(frozen=True)
class _Closing:
    """How the template closes an assistant turn."""

    with_special: bool
    """Whether a special token closes the turn; otherwise the turn ends without a marker."""
    eos_behind: bool
    """Whether the end-of-sequence token closes the text, not the turn: it disappears when the conversation
    continues."""


def find_assistant_turn(tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools) -> AssistantTurn:
    """Returns the last message, which is the assistant's, as a turn of the text.

    Raises:
        UncertainOpeningError: no turn stands before it, and the template does not show where it begins.
        ConversationError: the template does not show unambiguously what the assistant wrote, or leaves out or changes a
            part of it.
    """
    text = tokenizer.render(messages, tools)
    opening = _opening(tokenizer, messages, tools, text)
    closing = _find_closing(tokenizer, messages[:-1], tools)
    if closing.eos_behind:
        text = text.removesuffix(tokenizer.eos_token or "")
    check_turn_is_written(tokenizer, messages, tools, text[len(opening) :])
    return AssistantTurn(text, Range(len(opening), len(text.rstrip()), closing.with_special))


def _opening(tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools, text: str) -> str:
    """Returns the text after which the model writes the last message; `text`, that of all messages, begins with it.

    Raises ConversationError, or UncertainOpeningError, if it does not.
    """
    number = len(messages)
    is_first = all(message["role"] == "system" for message in messages[:-1])
    try:
        opening = tokenizer.render(messages[:-1], tools, add_generation_prompt=True)
    except ConversationError:
        if not is_first:
            raise
        opening = None  # many templates look at a first message that is not there
    if opening is not None and text.startswith(opening):
        return opening
    if is_first:
        raise UncertainOpeningError(
            f"message {number}: the conversation begins with this turn of the assistant, of which the chat template "
            "does not show where the model would begin to write, and nothing else is trained on; put a question before "
            "it, or leave such rows out with data.on_bad_row=skip"
        )
    assert opening is not None
    raise ConversationError(
        f"message {number}: the chat template writes this turn, or one before it, otherwise than when the model is "
        f"asked for it (then behind {opening[-40:]!r}); end the conversation before it, or use another template"
    )


def _find_closing(tokenizer: ChatTokenizer, before: Sequence[Message], tools: Tools) -> _Closing:
    number = len(before) + 1
    probe = [*before, {"role": "assistant", "content": END}]
    closing = _behind_mark(tokenizer.render(probe, tools), number)
    eos_behind = False
    if tokenizer.eos_token and closing.endswith(tokenizer.eos_token):
        longer = _behind_mark(tokenizer.render(probe, tools, add_generation_prompt=True), number)
        lasting = closing.removesuffix(tokenizer.eos_token)
        # If the end-of-sequence token is the only special token, it is what ends the turn.
        eos_behind = not longer.startswith(closing) and bool(_special_ranges(tokenizer, lasting))
        closing = lasting if eos_behind else closing
    special = _special_ranges(tokenizer, closing)
    end = special[0][1] if special else len(closing)
    for start, stop in special[1:]:
        end = stop if start == end else end
    if behind := closing[end:].strip():
        raise ConversationError(
            f"message {number}: the chat template writes {behind!r} behind the end of the turn; use another template"
        )
    return _Closing(bool(special), eos_behind)


def _behind_mark(text: str, number: int) -> str:
    if text.count(END) != 1:
        raise ConversationError(
            f"message {number}: the chat template does not write the content of an assistant turn once, as it "
            "stands; use another template"
        )
    return text.partition(END)[2]


def _special_ranges(tokenizer: ChatTokenizer, text: str) -> list[tuple[int, int]]:
    ids, offsets = tokenizer.encode(text)
    return [place for token_id, place in zip(ids, offsets, strict=True) if token_id in tokenizer.special_token_ids]


def find_contents(
    tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools, text: str, indices: Sequence[int]
) -> dict[int, Range]:
    """Returns the ranges of the contents of the messages `indices` in the text of the conversation.

    White space at the edges of a content is outside its range, and a blank content has no range.

    Raises:
        ConversationError: the template does not write a content exactly once, or its output depends on the content.
    """
    written = [i for i in indices if (messages[i].get("content") or "").strip()]
    if not written:
        return {}
    marked = [_marked(message) if i in written else message for i, message in enumerate(messages)]
    pieces = tokenizer.render(marked, tools).replace(BEGIN, END).split(END)
    if "".join(pieces) != text or len(pieces) != 2 * len(written) + 1:
        numbers = ", ".join(str(i + 1) for i in written)
        raise ConversationError(
            f"the chat template does not show where the content of these messages stands: {numbers}; train on the "
            "assistant alone, or use another template"
        )
    ends = list(accumulate(len(piece) for piece in pieces))
    return {i: Range(ends[2 * n], ends[2 * n + 1]) for n, i in enumerate(written)}


def _marked(message: Message) -> Message:
    """Returns the message with marks around its content, inside the white space that a template may trim."""
    content = message["content"]
    core = content.strip()
    before, _, after = content.partition(core)
    return {**message, "content": f"{before}{BEGIN}{core}{END}{after}"}
