"""Computes how ZeRO-3 divides a parameter over the ranks: pure arithmetic, without torch."""

import numpy as np

Range = tuple[int, int]
"""A half-open range `(start, stop)`."""


def flat_range(elements: int, rank: int, world_size: int) -> Range:
    """Returns the range of flat elements of a parameter that the shard of `rank` holds.

    Every shard has `ceil(elements / world_size)` elements, except that the last ones may have fewer.
    """
    per_rank = -(-elements // world_size)
    return min(rank * per_rank, elements), min((rank + 1) * per_rank, elements)


def row_range(rows: int, columns: int, rank: int, world_size: int) -> Range:
    """Returns the rows of a (rows, columns) parameter of which the shard of `rank` holds at least one element.

    A row at the border of two shards is in the ranges of both ranks.
    """
    first, last = flat_range(rows * columns, rank, world_size)
    if first == last:
        return rows, rows
    return first // columns, -(-last // columns)


def overlap(one: Range, other: Range) -> Range:
    """Returns the intersection of two ranges. An empty intersection lies inside `one`."""
    start = min(max(one[0], other[0]), one[1])
    return start, max(start, min(one[1], other[1]))


def shard_size(numbers: int, ranks: int) -> int:
    """Returns the count of numbers of a parameter's shard on each rank, padding included."""
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
