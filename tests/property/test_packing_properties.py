"""Packing over random lengths, world sizes and budgets."""

from heapq import heapreplace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from osftx.data.packing import pack, plan_steps, sample_order

BUDGETS = st.integers(1, 200)
WORLD_SIZES = st.integers(1, 9)


@st.composite
def steps(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Lengths of the samples of one step, world size, and a budget that the longest sample keeps within."""
    max_tokens = draw(BUDGETS)
    lengths = draw(st.lists(st.integers(1, max_tokens), max_size=120))
    return lengths, draw(WORLD_SIZES), max_tokens


@given(steps())
def test_every_sample_is_in_one_micro_batch(step: tuple[list[int], int, int]) -> None:
    lengths, world_size, max_tokens = step
    ranks = pack(lengths, world_size, max_tokens)
    assert len(ranks) == world_size
    positions = [i for rank in ranks for micro_batch in rank for i in micro_batch]
    assert sorted(positions) == list(range(len(lengths)))


@given(steps())
def test_micro_batches_keep_within_the_budget(step: tuple[list[int], int, int]) -> None:
    lengths, world_size, max_tokens = step
    for rank in pack(lengths, world_size, max_tokens):
        for micro_batch in rank:
            assert 0 < sum(lengths[i] for i in micro_batch) <= max_tokens


@given(steps())
def test_ranks_are_balanced(step: tuple[list[int], int, int]) -> None:
    lengths, world_size, max_tokens = step
    ranks = pack(lengths, world_size, max_tokens)
    counts = [len(rank) for rank in ranks]
    tokens = [sum(lengths[i] for micro_batch in rank for i in micro_batch) for rank in ranks]
    assert max(counts) - min(counts) <= 1
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


@given(steps())
def test_no_smaller_number_of_micro_batches_fits(step: tuple[list[int], int, int]) -> None:
    """Against trying 1, 2, 3, ... micro-batches a rank in turn."""
    lengths, world_size, max_tokens = step
    per_rank = 0 if not lengths else 1
    while not _longest_first_fits(lengths, world_size * per_rank, max_tokens):
        per_rank += 1
    assert max(len(rank) for rank in pack(lengths, world_size, max_tokens)) == per_rank


def _longest_first_fits(lengths: list[int], num_bins: int, max_tokens: int) -> bool:
    loads = [0] * num_bins
    for length in sorted(lengths, reverse=True):
        heapreplace(loads, loads[0] + length)
    return max(loads, default=0) <= max_tokens


@given(steps())
def test_packing_is_reproducible(step: tuple[list[int], int, int]) -> None:
    lengths, world_size, max_tokens = step
    assert pack(lengths, world_size, max_tokens) == pack(np.array(lengths, dtype=int), world_size, max_tokens)


@given(st.integers(1, 50), st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**32))
def test_order_depends_on_seed_and_epoch_alone(samples: int, epochs: int, more: int, seed: int) -> None:
    np.random.seed(seed % 1000)  # what the global generator holds does not matter
    order = sample_order(samples, epochs, seed)
    longer = sample_order(samples, epochs + more, seed)
    assert (longer[: len(order)] == order).all()
    assert len(longer) == samples * (epochs + more)
    for epoch in longer.reshape(-1, samples):
        assert sorted(epoch) == list(range(samples))


@given(st.integers(0, 2**31))
def test_seeds_give_other_orders(seed: int) -> None:
    assert (sample_order(50, 1, seed) != sample_order(50, 1, seed + 1)).any()


@given(st.integers(1, 60), st.integers(0, 5), st.integers(1, 80))
def test_steps_are_the_order_cut(samples: int, epochs: int, batch: int) -> None:
    order = sample_order(samples, epochs, seed=1)
    cut = plan_steps(order, batch)
    assert [i for step in cut for i in step] == order.tolist()
    assert all(len(step) == batch for step in cut[:-1])
    assert all(0 < len(step) <= batch for step in cut)
