"""Turns rows into token ids, one chunk of rows at a time, in this process or in several at once."""

import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from osftx.config.schema import SpecialTokens, TooLong, TrainOn
from osftx.data.chat.arguments import in_accepted_form
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.lengths import Fitted, fit_conversation, fit_document
from osftx.data.chat.loss_mask import PRETRAINING, EncodedConversation, encode_document
from osftx.data.chat.plain_contents import spelled_tokens, with_plain_contents
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError
from osftx.data.chunks import Chunk
from osftx.data.formats import Shape, conversation_of, document_of, parse, tokens_of
from osftx.data.json_text import RowError
from osftx.data.samples import CONTEXT_TURNS, EMPTY_TURNS, SHORTENED, SkippedRow, TokenBatch
from osftx.data.sources import Row
from osftx.errors import ConfigurationError
from osftx.utils.limits import time_limit
from osftx.utils.processes import end_with_parent

IN_FLIGHT = 3
"""Number of chunks per process that are read ahead, so that no process waits for the reader and memory stays
bounded."""

ROW_SECONDS, SECONDS_PER_MIB, SECONDS_PER_MESSAGE = 5.0, 10.0, 0.1
"""Time limit of a conversation: seconds of computing of any, and more for each MiB and message, which is many times of
what they need. A template that takes longer does not come to an end."""


class Encoded(NamedTuple):
    size: int
    """Number of bytes of the source that were read for these samples."""
    samples: TokenBatch
    turns: Counter[str]
    """Number of messages of each role in the conversations."""
    wrong: list[SkippedRow]
    """Rows that could not be used, in the order in which they were read."""
    adjusted: Counter[str]
    """Numbers of what was adjusted in the rows, by the names of `DataSummary.adjusted`."""
    special: dict[str, set[str]]
    """Special tokens that the contents of usable rows spell out, by the place of the row."""


@dataclass
class _Read:
    """The samples of one row and the counts that describe it."""

    samples: list[EncodedConversation] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    """Roles of its messages."""
    adjusted: dict[str, int] = field(default_factory=dict)
    """Numbers of what was adjusted."""
    spelled: set[str] = field(default_factory=set)
    """Special tokens that its contents spell out."""


@dataclass(frozen=True)
class Encoder:
    """Turns rows into samples. An encoder can be sent to another process, which loads the tokenizer again."""

    tokenizer: ChatTokenizer | None
    """The model's tokenizer; with None rows are checked, and give samples without tokens."""
    train_on: TrainOn
    document_column: str
    roles: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    too_long: TooLong = TooLong.drop
    max_seq_len: int = 0
    """Read only where `too_long` is not `drop`."""
    special_tokens: SpecialTokens = SpecialTokens.as_text

    def encode(self, chunk: Chunk) -> Encoded:
        """Returns the samples of all rows of the chunk.

        Raises:
            ConfigurationError: the chat template does not come to an end with a row.
        """
        samples: list[EncodedConversation] = []
        turns: Counter[str] = Counter()
        adjusted: Counter[str] = Counter()
        wrong: list[SkippedRow] = []
        special: dict[str, set[str]] = {}
        for row in chunk.rows:
            try:
                read = self._read(chunk.shape, row)
            except (RowError, ConversationError) as error:
                wrong.append(SkippedRow(row.place, str(error)))
            except RecursionError:
                wrong.append(SkippedRow(row.place, "is nested too deeply to be a row; make it flatter"))
            else:
                samples += read.samples
                turns.update(read.roles)
                adjusted.update(read.adjusted)
                if read.spelled:
                    special[row.place] = read.spelled
        return Encoded(chunk.size, _joined(samples), turns, wrong, adjusted, special)

    def _read(self, shape: Shape, row: Row) -> _Read:
        """Returns what is made of a row. Raises RowError or ConversationError for a row that cannot be used."""
        content = parse(row.content, self.ignored)
        if shape is Shape.tokenized:
            tokens = tokens_of(content, self.tokenizer.vocab_size if self.tokenizer is not None else None)
            read = _Read([EncodedConversation(*tokens)])
        elif shape is Shape.documents:
            read = self._of_document(document_of(content, self.document_column), row)
        else:
            conversation = conversation_of(shape, content, self.train_on, self.roles, self.ignored)
            roles = [message["role"] for message in conversation.messages]
            if self.tokenizer is not None and not self.tokenizer.renders:
                # `prepare` reports the missing template once, not per row.
                return _Read([EncodedConversation([], [])], roles)
            read = self._of_conversation(conversation, roles, row)
        if self.tokenizer is None:
            read.samples = [EncodedConversation([], [])]
        elif not any(any(sample.counted[1:]) for sample in read.samples):
            raise RowError("has no token on which loss is counted; give it a turn, or a label, to train on")
        return read

    def _of_document(self, text: str, row: Row) -> _Read:
        if self.tokenizer is None:
            return _Read()
        with _limited(self.tokenizer, row.place, ROW_SECONDS):
            special_text = self.tokenizer.special_text  # the first time the chat template is asked for its markers
        spelled = self._allowed(special_text.find(text))
        fitted = fit_document(encode_document(self.tokenizer, text), self.too_long, self.max_seq_len)
        return _Read(fitted.samples, [], {SHORTENED: int(fitted.shortened)}, spelled)

    def _of_conversation(self, conversation: Conversation, roles: list[str], row: Row) -> _Read:
        read = _Read(roles=roles, adjusted={EMPTY_TURNS: conversation.empty_turns})
        if self.tokenizer is None:
            return read
        train_on = conversation.train_on or self.train_on
        seconds = ROW_SECONDS + SECONDS_PER_MIB * row.length / 2**20 + SECONDS_PER_MESSAGE * len(conversation.messages)
        with _limited(self.tokenizer, row.place, seconds):
            make = partial(self._fitted, self.tokenizer, train_on)
            fitted, read.spelled = in_accepted_form(conversation, make)
        read.samples = fitted.samples
        read.adjusted[SHORTENED] = int(fitted.shortened)
        read.adjusted[CONTEXT_TURNS] = sum(sample.context_turns for sample in fitted.samples)
        return read

    def _fitted(
        self, tokenizer: ChatTokenizer, train_on: TrainOn, conversation: Conversation
    ) -> tuple[Fitted, set[str]]:
        """Returns the samples of a conversation, and the special tokens that its contents spell out."""
        if self.special_tokens is SpecialTokens.allow or conversation.messages[0]["role"] == PRETRAINING:
            spelled = spelled_tokens(tokenizer, conversation)
        else:
            tokenizer, conversation, spelled = with_plain_contents(tokenizer, conversation)
        try:
            fitted = fit_conversation(tokenizer, conversation, train_on, self.too_long, self.max_seq_len)
        except ConversationError as error:
            raise ConversationError(tokenizer.show(str(error))) from error
        return fitted, self._allowed(spelled)

    def _allowed(self, spelled: set[str]) -> set[str]:
        """Returns the special tokens that a row spells out. Raises RowError if it must not."""
        if spelled and self.special_tokens is SpecialTokens.fail:
            raise RowError(
                f"spells out the special token {min(spelled)!r} (special_tokens=fail); remove it, or set "
                "special_tokens=as_text"
            )
        return spelled


@contextmanager
def _limited(tokenizer: ChatTokenizer, place: str, seconds: float) -> Iterator[None]:
    """Ends what the chat template makes of a row after some seconds. Raises ConfigurationError then."""
    try:
        with time_limit(seconds):
            yield
    except TimeoutError as error:
        raise ConfigurationError([f"{place}: {tokenizer.no_end(error)}"]) from error


def encode_all(encoder: Encoder, chunks: Iterable[Chunk], processes: int) -> Generator[Encoded, None, None]:
    """Yields the encoding of every chunk, in order. Closing the generator ends the processes early.

    Raises:
        ConfigurationError: one of several processes has ended.
    """
    if processes == 1:
        yield from map(encoder.encode, chunks)
        return
    # Processes are not forked: threads of this process (of a progress bar, of pyarrow) may hold locks at that moment.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, (encoder, os.getpid()))
    waiting: deque[Future[Encoded]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_encode, chunk))
            if len(waiting) == IN_FLIGHT * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ConfigurationError(
            [
                f"data.num_proc={processes}: a process that tokenises has ended (killed, out of memory?); set "
                "data.num_proc to less"
            ]
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_encoder: Encoder
"""The encoder of this process, if it is a process of the pool."""


def _start(encoder: Encoder, parent: int) -> None:
    global _encoder  # noqa: PLW0603 (what the pool's initializer is for)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends the pool
    end_with_parent(parent)
    _encoder = encoder


def _encode(chunk: Chunk) -> Encoded:
    return _encoder.encode(chunk)


def _joined(samples: list[EncodedConversation]) -> TokenBatch:
    ids = np.array([token for sample in samples for token in sample.input_ids], dtype=np.int32)
    counted = np.array([mark for sample in samples for mark in sample.counted], dtype=bool)
    return TokenBatch(ids, counted, np.array([len(sample.input_ids) for sample in samples], dtype=np.int64))
