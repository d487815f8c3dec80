"""Makes conversations and documents that are longer than a sample may be into shorter ones, as `data.too_long` says.

No turn is ever cut. What cannot be made short enough is returned as it is, and is dropped and counted later.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from osftx.config.schema import TooLong, TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.loss_mask import (
    PRETRAINING,
    EncodedConversation,
    NothingCountedError,
    encode_conversation,
)
from osftx.data.chat.tokenizer import ChatTokenizer

Messages = list[dict[str, Any]]


class Fitted(NamedTuple):
    """The samples of one conversation or document, and whether it had to be shortened for them."""

    samples: list[EncodedConversation]
    shortened: bool


def fit_document(document: EncodedConversation, too_long: TooLong, max_seq_len: int) -> Fitted:
    """Returns a document as one sample, or as the samples that `too_long` makes of it."""
    length = len(document.input_ids)
    if length <= max_seq_len or too_long is TooLong.drop:
        return Fitted([document], False)
    end = max_seq_len if too_long is TooLong.cut else length
    starts = [start for start in range(0, end, max_seq_len) if length - start > 1]  # a token alone teaches nothing
    pieces = [slice(start, start + max_seq_len) for start in starts]
    return Fitted([EncodedConversation(document.input_ids[one], document.counted[one]) for one in pieces], True)


def fit_conversation(
    tokenizer: ChatTokenizer, conversation: Conversation, train_on: TrainOn, too_long: TooLong, max_seq_len: int
) -> Fitted:
    """Returns the samples of a conversation, or of what `too_long` leaves of it.

    Raises:
        ConversationError: as `encode_conversation`.
    """
    samples = encode_conversation(tokenizer, conversation, train_on)
    if too_long is TooLong.drop or _fit(samples, max_seq_len):
        return Fitted(samples, False)
    if conversation.messages[0]["role"] == PRETRAINING:
        fitted = [fit_document(sample, too_long, max_seq_len) for sample in samples]
        return Fitted([sample for one in fitted for sample in one.samples], True)
    shorten = _cut if too_long is TooLong.cut else _split
    shorter = shorten(_Pieces(tokenizer, conversation, train_on, max_seq_len))
    if not shorter:
        return Fitted(samples, False)
    if not any(sample.context_turns for sample in shorter):  # the turn may have been a piece of its own, of no sample
        shorter[0] = replace(shorter[0], context_turns=samples[0].context_turns)
    return Fitted(shorter, True)


def _fit(samples: Sequence[EncodedConversation], max_seq_len: int) -> bool:
    return all(len(sample.input_ids) <= max_seq_len for sample in samples)


class _Pieces(NamedTuple):
    """The settings with which pieces of a conversation become samples."""

    tokenizer: ChatTokenizer
    conversation: Conversation
    train_on: TrainOn
    max_seq_len: int

    def samples(self, messages: Messages) -> list[EncodedConversation]:
        """Returns the samples of some messages; none if nothing of them is counted. Raises ConversationError."""
        try:
            piece = Conversation(messages, self.conversation.tools)
            return encode_conversation(self.tokenizer, piece, self.train_on)
        except NothingCountedError:
            return []

    def most(self, head: Messages, body: Messages, ends: Sequence[int]) -> tuple[int, list[EncodedConversation]]:
        """Returns the last of the `ends` up to which `body`, behind `head`, is short enough, and its samples.

        The end is 0 if not even the first is short enough.
        """
        place = _last(len(ends), lambda place: self._text_fits(head + body[: ends[place]]))
        while place >= 0:
            samples = self.samples(head + body[: ends[place]])
            if _fit(samples, self.max_seq_len):  # a template that rewrites turns may write a longer text for fewer
                return ends[place], samples
            place -= 1
        return 0, []

    def _text_fits(self, messages: Messages) -> bool:
        shown = [{key: value for key, value in message.items() if key != "train"} for message in messages]
        text = self.tokenizer.render(shown, self.conversation.tools)
        return len(self.tokenizer.encode(text)[0]) <= self.max_seq_len


def _last(count: int, fits: Callable[[int], bool]) -> int:
    """Returns the last of `count` places that fits, where those that do stand before those that do not; else -1."""
    low, high = -1, count - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _cut(pieces: _Pieces) -> list[EncodedConversation]:
    """Returns the samples of the longest beginning of the conversation that ends with an assistant turn and fits."""
    if pieces.train_on is TrainOn.last_assistant:
        return []  # every cut would take away the only turn that is counted
    messages = pieces.conversation.messages
    ends = [i + 1 for i, message in enumerate(messages) if message["role"] == "assistant"]
    return pieces.most([], messages, ends)[1]


def _split(pieces: _Pieces) -> list[EncodedConversation]:
    """Returns the samples of consecutive pieces, each as long as possible, which begin with a user turn.

    Each piece has the system message, which is counted, if at all, in the first piece alone. A piece that does not fit
    although it has a single user turn is kept, so that it is dropped and counted.
    """
    pieces, body = _with_last_marked(pieces)
    system, body = (body[:1], body[1:]) if body[0]["role"] == "system" else ([], body)
    samples: list[EncodedConversation] = []
    while body:
        ends = [i for i, message in enumerate(body) if message["role"] == "user" and i > 0] + [len(body)]
        end, made = pieces.most(system, body, ends)
        if not end:
            end, made = ends[0], pieces.samples(system + body[: ends[0]])
        samples += made
        system, body = [{**message, "train": False} for message in system], body[end:]
    return samples


def _with_last_marked(pieces: _Pieces) -> tuple[_Pieces, Messages]:
    """Returns the messages such that the last assistant turn stays the only one that is counted, if so it is."""
    messages = pieces.conversation.messages
    if pieces.train_on is not TrainOn.last_assistant:
        return pieces, messages
    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
    marked = [message if i == last else {**message, "train": False} for i, message in enumerate(messages)]
    return pieces._replace(train_on=TrainOn.assistant), marked
