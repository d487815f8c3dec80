"""Plans which samples form an optimizer step, and which of them share a micro-batch on a rank.

All functions are pure: every rank computes the same plan, so no plan has to be communicated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np

MicroBatch = list[int]
"""Positions of the samples that are concatenated into one row of tokens."""


def sample_order(num_samples: int, num_epochs: int, seed: int) -> np.ndarray:
    """Returns the order in which samples are used: one permutation per epoch, (num_epochs * num_samples,) int64.

    The permutation of an epoch depends on the seed and the epoch alone: training for more epochs only appends.
    """
    epochs = [np.random.default_rng([seed, epoch]).permutation(num_samples) for epoch in range(num_epochs)]
    return np.concatenate(epochs) if epochs else np.empty(0, dtype=np.int64)


def plan_steps(order: np.ndarray, effective_batch_size: int) -> list[np.ndarray]:
    """Cuts the order into optimizer steps of `effective_batch_size` samples over all ranks.

    Steps may extend across the end of an epoch; only the last step may hold fewer samples.
    """
    return [order[start : start + effective_batch_size] for start in range(0, len(order), effective_batch_size)]


def pack(lengths: Sequence[int] | np.ndarray, world_size: int, max_tokens: int) -> list[list[MicroBatch]]:
    """Distributes the samples of one step over the ranks, in as few micro-batches as LPT finds.

    Longest processing time first (LPT; Graham 1969, "Bounds on multiprocessing timing anomalies"): each sample, from
    the longest to the shortest, goes into the micro-batch with the fewest tokens. The number of micro-batches per rank
    is the smallest one for which none overflows. Micro-batches are then dealt out from the fullest to the emptiest,
    back and forth over the ranks: the numbers of micro-batches of two ranks differ by at most one, and the
    micro-batches that run at the same time have about the same size.

    Args:
        lengths: number of tokens of each sample of the step, (samples,).
        world_size: number of ranks.
        max_tokens: maximum number of tokens in one micro-batch.

    Returns:
        The micro-batches of each rank, none of them empty. A rank may have one fewer than another, or none at all: the
            trainer then runs an empty one on it, since all ranks take part in every forward and backward pass.

    Raises:
        ValueError: one sample alone is longer than `max_tokens`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if not len(lengths):
        return [[] for _ in range(world_size)]
    if lengths.max() > max_tokens:
        raise ValueError(
            f"sample {lengths.argmax()} has {lengths.max()} tokens, a micro-batch holds {max_tokens}: "
            "raise max_tokens_per_gpu or lower max_seq_len"
        )
    longest_first = np.argsort(-lengths, kind="stable")
    sizes = lengths[longest_first].tolist()

    bins = _fill(sizes, world_size * _fewest_per_rank(sizes, world_size, max_tokens))
    bins.sort(key=lambda members: -sum(sizes[i] for i in members))
    ranks: list[list[MicroBatch]] = [[] for _ in range(world_size)]
    for place, members in enumerate(bins):
        turn, rank = divmod(place, world_size)
        rank = rank if turn % 2 == 0 else world_size - 1 - rank
        ranks[rank].append(longest_first[members].tolist())
    return ranks


def _fewest_per_rank(sizes: list[int], world_size: int, max_tokens: int) -> int:
    """Returns the smallest number of micro-batches per rank for which none overflows.

    `sizes` are sorted from the longest on. One more bin never makes the fullest one fuller: the sorted loads of the
    bins stay at or below the previous ones, sample by sample. The smallest number is therefore found by bisection, in a
    range that begins at the lower bound, which usually is the result.
    """
    certain = -(-len(sizes) // world_size)  # all fit with one sample per bin
    too_few = max(1, -(-sum(sizes) // (world_size * max_tokens))) - 1
    enough, step = too_few + 1, 1
    while enough < certain and not _fits(sizes, world_size * enough, max_tokens):
        too_few, step = enough, 2 * step
        enough = min(too_few + step, certain)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _fits(sizes, world_size * middle, max_tokens):
            enough = middle
        else:
            too_few = middle
    return enough


def _fits(sizes: list[int], num_bins: int, max_tokens: int) -> bool:
    loads = [0] * num_bins
    for size in sizes:
        load = loads[0] + size
        if load > max_tokens:
            return False
        heapreplace(loads, load)
    return True


def _fill(sizes: list[int], num_bins: int) -> list[list[int]]:
    """Puts each size into the least-loaded bin, the first of equals.

    Returns the bins that are not empty, each a list of indices into `sizes`.
    """
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    loads = [(0, index) for index in range(num_bins)]  # a heap, and sorted from the start
    for place, size in enumerate(sizes):
        load, index = loads[0]
        bins[index].append(place)
        heapreplace(loads, (load + size, index))
    return [members for members in bins if members]


@dataclass(frozen=True)
class Fill:
    """How well the packing of all steps uses the ranks; each figure is a share, at best 1."""

    tokens: float
    """Number of tokens, relative to the capacity of all micro-batches of all ranks."""
    counted_tokens: float
    """Number of tokens that the loss counts, relative to the same capacity."""
    balance: float
    """Number of tokens, relative to the number that there would be if each rank always had as many as the fullest rank,
    for which all others wait."""


def fill_of(
    steps: Sequence[np.ndarray], lengths: np.ndarray, counted: np.ndarray, world_size: int, max_tokens: int
) -> Fill:
    """Returns the `Fill` of `steps`, each of which is an array of sample indices.

    `lengths` and `counted` are the numbers of tokens, and of tokens that the loss counts, of all samples, (samples,).
    """
    held = waited = 0
    for chosen in steps:
        packed = pack(lengths[chosen], world_size, max_tokens)
        for turn in range(max(map(len, packed))):
            micro_batches = [rank[turn] if turn < len(rank) else [] for rank in packed]
            held += world_size * max_tokens
            waited += world_size * max(int(lengths[chosen[places]].sum()) for places in micro_batches)
    chosen = np.concatenate(steps)
    tokens = int(lengths[chosen].sum())
    return Fill(tokens / held, int(counted[chosen].sum()) / held, tokens / waited)
