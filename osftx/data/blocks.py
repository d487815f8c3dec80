"""Concatenates documents and cuts them into blocks of equal length."""

from collections.abc import Iterable, Iterator

import numpy as np

from osftx.data.samples import TokenBatch


def in_blocks(batches: Iterable[TokenBatch], block_size: int) -> Iterator[TokenBatch]:
    """Yields samples of `block_size` tokens; the rest at the end is a shorter sample.

    A rest of a single token is dropped: no token before it could predict it.
    """
    ids, counted = np.empty(0, dtype=np.int32), np.empty(0, dtype=bool)
    for batch in batches:
        ids = np.concatenate([ids, batch.input_ids])
        counted = np.concatenate([counted, batch.counted])
        blocks = len(ids) // block_size
        end = blocks * block_size
        yield TokenBatch(ids[:end], counted[:end], np.full(blocks, block_size))
        ids, counted = ids[end:], counted[end:]
    if len(ids) > 1:
        yield TokenBatch(ids, counted, np.array([len(ids)]))
