"""Which samples form an optimizer step, and which of them share a micro-batch on a rank.

Pure functions of their arguments: every rank computes the same plan, so none has to be sent around.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np

MicroBatch = list[int]
"""Positions of the samples that are concatenated into one row of tokens."""


def sample_order(num_samples: int, num_epochs: int, seed: int) -> np.ndarray:
    """The order in which samples are used: one permutation an epoch, (num_epochs * num_samples,) int64.

    The permutation of an epoch depends on the seed and the epoch alone: training for more epochs only
    appends.
    """
    epochs = [np.random.default_rng([seed, epoch]).permutation(num_samples) for epoch in range(num_epochs)]
    return np.concatenate(epochs) if epochs else np.empty(0, dtype=np.int64)


def plan_steps(order: np.ndarray, effective_batch_size: int) -> list[np.ndarray]:
    """Cut the order into optimizer steps of `effective_batch_size` samples over all ranks.

    Steps run across the ends of epochs; only the last one may hold fewer samples.
    """
    return [order[start : start + effective_batch_size] for start in range(0, len(order), effective_batch_size)]


def pack(lengths: Sequence[int] | np.ndarray, world_size: int, max_tokens: int) -> list[list[MicroBatch]]:
    """Share the samples of one step out to the ranks, in as few micro-batches as LPT finds.

    Longest processing time first (Graham 1969, "Bounds on multiprocessing timing anomalies"): each sample,
    from the longest to the shortest, goes into the micro-batch with the fewest tokens. The number of
    micro-batches a rank is the smallest for which nothing overflows. Micro-batches are then dealt out from
    the fullest to the emptiest, back and forth over the ranks: the numbers of micro-batches of two ranks
    differ by at most one, and the micro-batches that run at the same time are of about the same size.

    Args:
        lengths: tokens of each sample of the step, (samples,).
        world_size: number of ranks.
        max_tokens: the most tokens in one micro-batch.

    Returns:
        For each rank its micro-batches, none of them empty. A rank may have one fewer than another, or none
        at all: the trainer lets it run an empty one, since all ranks take part in every forward and backward
        pass.

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
    """The smallest number of micro-batches a rank for which none overflows; `sizes` fall from the longest on.

    One bin more never makes the fullest one fuller: the bins' sorted loads stay at or below those before,
    sample by sample. So the smallest number is found by halving, in a range that begins at the lower bound,
    where it mostly is.
    """
    certain = -(-len(sizes) // world_size)  # with one sample a bin, all fit
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
    """Put each size into the least-loaded bin, the first of equals; non-empty bins of places in `sizes`."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    loads = [(0, index) for index in range(num_bins)]  # a heap, and sorted from the start
    for place, size in enumerate(sizes):
        load, index = loads[0]
        bins[index].append(place)
        heapreplace(loads, (load + size, index))
    return [members for members in bins if members]


@dataclass(frozen=True)
class Fill:
    """How much of the ranks' work the packing of all steps uses; each 1 at best."""

    tokens: float
    """Tokens, of those that all micro-batches of all ranks could hold."""
    counted_tokens: float
    """The same, of tokens on which loss is counted."""
    balance: float
    """Tokens, of those that there would be if each rank always had as many as the one that all wait for."""


def fill_of(
    steps: Sequence[np.ndarray], lengths: np.ndarray, counted: np.ndarray, world_size: int, max_tokens: int
) -> Fill:
    """Of `steps`, each the samples of one; `lengths` and `counted` are the tokens of all samples, (samples,)."""
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
