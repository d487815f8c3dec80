"""Turns rows into token ids, one chunk of rows at a time, in this process or in several at once."""

import os
import signal
from collections import Counter, deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from osftx.config.schema import SpecialTokens, TrainOn
from osftx.data.chat.loss_mask import PRETRAINING, EncodedConversation, encode_conversation, encode_document
from osftx.data.chat.plain_contents import spelled_tokens, with_plain_contents
from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError
from osftx.data.chunks import Chunk
from osftx.data.formats import RowError, Shape, conversation_of, document_of, parse, tokens_of
from osftx.data.samples import SkippedRow, TokenBatch
from osftx.data.sources import Row
from osftx.errors import ConfigurationError
from osftx.utils.processes import end_with_parent

IN_FLIGHT = 3
"""Number of chunks per process that are read ahead, so that no process waits for the reader and memory stays
bounded."""


class Encoded(NamedTuple):
    size: int
    """Number of bytes of the source that were read for these samples."""
    samples: TokenBatch
    turns: Counter[str]
    """Number of messages of each role in the conversations."""
    wrong: list[SkippedRow]
    """Rows that could not be used, in the order in which they were read."""
    special: dict[str, set[str]]
    """Special tokens that the contents of usable rows spell out, by the place of the row."""


@dataclass(frozen=True)
class Encoder:
    """Turns rows into samples. An encoder can be sent to another process, which loads the tokenizer again."""

    tokenizer: ChatTokenizer | None
    """The model's tokenizer; with None rows are checked, and give samples without tokens."""
    train_on: TrainOn
    document_column: str
    special_tokens: SpecialTokens = SpecialTokens.as_text

    def encode(self, chunk: Chunk) -> Encoded:
        samples: list[EncodedConversation] = []
        turns: Counter[str] = Counter()
        wrong: list[SkippedRow] = []
        special: dict[str, set[str]] = {}
        for row in chunk.rows:
            try:
                made, roles, spelled = self._samples(chunk.shape, row)
                samples += made
                turns.update(roles)
                if spelled:
                    special[row.place] = spelled
            except (RowError, ConversationError) as error:
                wrong.append(SkippedRow(row.place, str(error)))
        return Encoded(chunk.size, _joined(samples), turns, wrong, special)

    def _samples(self, shape: Shape, row: Row) -> tuple[list[EncodedConversation], list[str], set[str]]:
        """Returns the samples of a row, the roles of its messages, and the special tokens that it spells out.

        Raises RowError or ConversationError for a row that cannot be used.
        """
        content = parse(row.content)
        roles: list[str] = []
        spelled: set[str] = set()
        if shape is Shape.tokenized:
            tokens = tokens_of(content, self.tokenizer.vocab_size if self.tokenizer is not None else None)
            samples = [EncodedConversation(*tokens)]
        elif shape is Shape.documents:
            text = document_of(content, self.document_column)
            samples = []
            if self.tokenizer is not None:
                spelled = self._allowed(self.tokenizer.special_text.find(text))
                samples = [encode_document(self.tokenizer, text)]
        else:
            conversation = conversation_of(shape, content, self.train_on)
            roles = [message["role"] for message in conversation.messages]
            if self.tokenizer is not None and not self.tokenizer.renders:
                return (
                    [EncodedConversation([], [])],
                    roles,
                    spelled,
                )  # `prepare` reports the missing template once, not per row
            samples = []
            if self.tokenizer is not None:
                spelled = self._allowed(spelled_tokens(self.tokenizer, conversation))
                if spelled and self.special_tokens is SpecialTokens.as_text and PRETRAINING not in roles:
                    conversation = with_plain_contents(self.tokenizer, conversation)
                samples = encode_conversation(self.tokenizer, conversation, self.train_on)
        if self.tokenizer is None:
            return [EncodedConversation([], [])], roles, spelled
        if not any(any(sample.counted[1:]) for sample in samples):
            raise RowError("has no token on which loss is counted; give it a turn, or a label, to train on")
        return samples, roles, spelled

    def _allowed(self, spelled: set[str]) -> set[str]:
        """Returns the special tokens that a row spells out. Raises RowError if it must not."""
        if spelled and self.special_tokens is SpecialTokens.fail:
            raise RowError(
                f"spells out the special token {min(spelled)!r} (special_tokens=fail); remove it, or set "
                "special_tokens=as_text"
            )
        return spelled


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
