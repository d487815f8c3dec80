"""Rows are cut where ZeRO-3 cuts a parameter: a shard is `ceil(elements / ranks)` flat elements."""

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from osftx.distributed.partition import row_range, rows_by_rank, shard_size

sizes = st.integers(1, 40)
ranks = st.integers(1, 70)  # more ranks than rows too


def shard(rows: int, columns: int, rank: int, world_size: int) -> range:
    """The flat elements of a rank's shard; those beyond the parameter are padding, and left out."""
    per_rank = (rows * columns + world_size - 1) // world_size
    return range(min(rank * per_rank, rows * columns), min((rank + 1) * per_rank, rows * columns))


@settings(max_examples=300, deadline=None)
@given(sizes, sizes, ranks)
@example(rows=7, columns=3, world_size=2)  # the middle row belongs to both ranks
@example(rows=3, columns=1, world_size=8)  # five ranks hold padding alone
@example(rows=2, columns=9, world_size=8)  # one row on many ranks
def test_a_rank_keeps_the_rows_of_its_shard_and_no_others(rows: int, columns: int, world_size: int) -> None:
    for rank in range(world_size):
        start, stop = row_range(rows, columns, rank, world_size)
        touched = {element // columns for element in shard(rows, columns, rank, world_size)}
        assert set(range(start, stop)) == touched


@settings(max_examples=300, deadline=None)
@given(sizes, sizes, ranks)
def test_the_ranks_cover_every_row_in_order(rows: int, columns: int, world_size: int) -> None:
    ranges = [row_range(rows, columns, rank, world_size) for rank in range(world_size)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == rows
    for (start, stop), (next_start, next_stop) in pairwise(ranges):
        assert start <= next_start <= stop, "a gap between two ranks"
        assert stop <= next_stop
        assert 0 <= next_start <= next_stop <= rows
        assert stop - next_start <= 1, "two ranks share at most the row at their border"


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 70), st.data())
def test_rows_are_counted_as_they_are_cut(rows: int, columns: int, ranks: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    ranges = [row_range(rows, columns, rank, ranks) for rank in range(ranks)]
    inside = [len(range(max(start, first), min(stop, last))) for start, stop in ranges]
    assert rows_by_rank((rows, columns), ranks, first, last).tolist() == inside


@settings(max_examples=100, deadline=None)
@given(sizes, sizes, ranks)
def test_a_shard_is_the_largest_of_all(rows: int, columns: int, world_size: int) -> None:
    largest = max(len(shard(rows, columns, rank, world_size)) for rank in range(world_size))
    assert shard_size(rows * columns, world_size) == largest
