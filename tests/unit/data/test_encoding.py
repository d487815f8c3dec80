"""Chunks in several processes: in order, not read too far ahead, and over when one of them ends."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import active_children

import numpy as np
import pytest

from osftx.config.schema import TrainOn
from osftx.data.chunks import Chunk
from osftx.data.encoding import IN_FLIGHT, Encoded, Encoder, encode_all
from osftx.data.formats import Shape
from osftx.data.samples import TokenBatch
from osftx.data.sources import Row
from osftx.errors import ConfigurationError

pytestmark = pytest.mark.process

NOTHING = TokenBatch(np.empty(0, np.int32), np.empty(0, bool), np.empty(0, np.int64))


@dataclass(frozen=True)
class Sleeping(Encoder):
    """Takes longest for the first rows; gives back their numbers as sizes."""

    def encode(self, chunk: Chunk) -> Encoded:
        time.sleep(0.1 / (1 + chunk.size))
        return Encoded(chunk.size, NOTHING, Counter(), [], Counter(), {})


@dataclass(frozen=True)
class Dying(Encoder):
    def encode(self, chunk: Chunk) -> Encoded:
        os._exit(1)


def chunks(count: int, read: list[int]) -> Iterator[Chunk]:
    for number in range(count):
        read.append(number)
        yield Chunk(Shape.documents, [Row("", {}, number)])


def test_results_come_in_order_and_few_chunks_are_read_ahead() -> None:
    read: list[int] = []
    results = encode_all(Sleeping(None, TrainOn.assistant, "document"), chunks(20, read), processes=2)
    for number in range(20):
        assert next(results).size == number
        assert len(read) <= number + 2 * IN_FLIGHT
    assert next(results, None) is None
    assert active_children() == []


def test_closing_ends_the_processes() -> None:
    read: list[int] = []
    results = encode_all(Sleeping(None, TrainOn.assistant, "document"), chunks(99, read), processes=2)
    next(results)
    assert active_children()
    results.close()
    assert active_children() == []
    assert len(read) < 10


def test_a_process_that_ends_is_told() -> None:
    results = encode_all(Dying(None, TrainOn.assistant, "document"), chunks(9, []), processes=2)
    with pytest.raises(ConfigurationError, match=r"data.num_proc=2: a process that tokenises has ended .* set data"):
        list(results)
    assert active_children() == []
