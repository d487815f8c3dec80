"""Steps and micro-batches on examples small enough to check by hand; see also tests/property."""

import time

import numpy as np
import pytest

from osftx.data.packing import Fill, fill_of, pack, plan_steps, sample_order


def test_each_epoch_uses_every_sample_once() -> None:
    order = sample_order(num_samples=10, num_epochs=3, seed=7)
    for epoch in order.reshape(3, 10):
        assert sorted(epoch) == list(range(10))
    assert (order[:10] != order[10:20]).any()


def test_no_epoch_is_an_empty_order() -> None:
    assert sample_order(10, 0, 7).shape == (0,)
    assert plan_steps(sample_order(10, 0, 7), 4) == []


def test_steps_run_across_epochs() -> None:
    order = sample_order(num_samples=5, num_epochs=3, seed=0)
    steps = plan_steps(order, 4)
    assert [len(step) for step in steps] == [4, 4, 4, 3]
    assert (np.concatenate(steps) == order).all()


def test_longest_first_into_the_emptiest() -> None:
    # Two bins of 10: 7 | 6, then 3 to the 6, then 2 to the 7, then 1 to either (9 and 9): the first.
    assert pack([1, 7, 3, 2, 6], world_size=1, max_tokens=10) == [[[1, 3, 0], [4, 2]]]


def test_micro_batches_are_dealt_back_and_forth() -> None:
    # One sample each: the fullest to rank 0, the next to rank 1, then backwards.
    assert pack([9, 8, 7, 6], world_size=2, max_tokens=9) == [[[0], [3]], [[1], [2]]]


def test_ties_go_by_position() -> None:
    assert pack([4, 4, 4, 4], world_size=2, max_tokens=8) == [[[0, 2]], [[1, 3]]]
    assert pack([4, 5] * 500, world_size=1, max_tokens=5) == [[[i] for i in [*range(1, 1000, 2), *range(0, 1000, 2)]]]


def test_fewer_samples_than_ranks() -> None:
    assert pack([3], world_size=3, max_tokens=4) == [[[0]], [], []]
    assert pack([], world_size=2, max_tokens=4) == [[], []]


def test_sample_that_fits_nowhere() -> None:
    with pytest.raises(ValueError, match=r"sample 1 has 9 tokens, a micro-batch holds 8: raise max_tokens_per_gpu"):
        pack([1, 9], world_size=1, max_tokens=8)


def test_large_steps_are_packed_quickly() -> None:
    lengths = np.random.default_rng(0).integers(1, 4097, size=100_000)
    start = time.perf_counter()
    ranks = pack(lengths, world_size=8, max_tokens=4096)
    assert time.perf_counter() - start < 5  # 0.4 s on an idle core
    tokens = [sum(lengths[i] for micro_batch in rank for i in micro_batch) for rank in ranks]
    assert max(tokens) - min(tokens) < 4096
    assert sum(tokens) > 0.99 * 4096 * sum(len(rank) for rank in ranks)


def test_how_well_the_ranks_are_filled() -> None:
    lengths, counted = np.array([6, 4, 5, 1]), np.array([3, 1, 2, 1])
    # The first step: 6 beside 4. The second: 5 beside 1. Both on two ranks, with room for 8 each.
    fill = fill_of([np.array([0, 1]), np.array([2, 3])], lengths, counted, world_size=2, max_tokens=8)
    assert fill == Fill(tokens=16 / 32, counted_tokens=7 / 32, balance=16 / (2 * 6 + 2 * 5))


def test_a_rank_without_work_counts_as_waiting() -> None:
    fill = fill_of([np.array([0])], np.array([8]), np.array([7]), world_size=2, max_tokens=8)
    assert fill == Fill(tokens=0.5, counted_tokens=7 / 16, balance=0.5)
