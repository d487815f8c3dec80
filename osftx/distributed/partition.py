"""How ZeRO-3 divides a parameter over the ranks. Pure arithmetic: needs no torch."""

import numpy as np

Range = tuple[int, int]
"""From the first to before the last."""


def flat_range(elements: int, rank: int, world_size: int) -> Range:
    """The flat elements of a parameter in rank's ZeRO-3 shard: `ceil(elements / world_size)`, less at the end."""
    per_rank = -(-elements // world_size)
    return min(rank * per_rank, elements), min((rank + 1) * per_rank, elements)


def row_range(rows: int, columns: int, rank: int, world_size: int) -> Range:
    """Rows [start, stop) that touch rank's ZeRO-3 shard of a (rows, columns) parameter.

    The row at a border may belong to two ranks.
    """
    first, last = flat_range(rows * columns, rank, world_size)
    if first == last:
        return rows, rows
    return first // columns, -(-last // columns)


def overlap(one: Range, other: Range) -> Range:
    """What both have; empty, inside `one`, where that is nothing."""
    start = min(max(one[0], other[0]), one[1])
    return start, max(start, min(one[1], other[1]))


def shard_size(numbers: int, ranks: int) -> int:
    """Returns the numbers of a parameter's shard on each rank, padding included."""
    return -(-numbers // ranks)


def rows_by_rank(weight: tuple[int, ...], ranks: int, first: int = 0, last: int | None = None) -> np.ndarray:
    """Returns how many rows [first, last) of a `weight` (rows, columns) touch each rank's shard, (ranks,) int64."""
    rows, columns = weight
    shard = shard_size(rows * columns, ranks)
    begins = np.minimum(np.arange(ranks) * shard, rows * columns)
    ends = np.minimum(begins + shard, rows * columns)
    starts, stops = begins // columns, -(-ends // columns)
    inside = np.minimum(stops, rows if last is None else last) - np.maximum(starts, first)
    return np.where(ends > begins, np.maximum(inside, 0), 0)
