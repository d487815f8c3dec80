"""What a rank holds between two steps: every tensor that lives as long as the phase trains, counted exactly.

ZeRO-3 cuts a tensor of n numbers into shards of ceil(n / ranks). What it is told apart by:

- in the precision of training: the weights, OSFT's updates (`delta`) and its free bases. Those of up to `KEPT_WHOLE`
  numbers are held whole beside their shard, unless there is only one rank;
- of what is trained, in fp32: gradients, the master copy, AdamW's two moments, and the bucket that gathers gradients;
- of OSFT: fp32 bases, cut by rows (`ShardedRows`), the shard of each starting weight (`Merging`), as fine as it was
  saved, and by activations the energy of each input's free directions, whole on every rank.

Scalars, buffers such as rotary frequencies and the communication library's own memory are left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import prod

import numpy as np

from osftx.config.schema import BestState
from osftx.distributed.gradient_bucket import gradient_bucket
from osftx.methods.covariance.index import moment_bytes
from osftx.planning.estimate.workload import FP32, Update, Workload

KEPT_WHOLE = 100_000
"""Numbers; DeepSpeed's `param_persistence_threshold`."""


@dataclass
class Held:
    """Bytes, by what they are for."""

    parameters: int = 0
    """Weights and updates, in the precision of training."""
    gradients: int = 0
    master: int = 0
    moments: int = 0
    bucket: int = 0
    bases: int = 0
    """Of OSFT, in both precisions, with the energies."""
    starting_weights: int = 0
    kept_inputs: int = 0
    """Roots of the second moments of what must be kept."""
    best_state: int = 0
    """fp32 copy of what is trained, as it was at the lowest validation loss."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def between_steps(work: Workload) -> tuple[Held, Held]:
    """(on the device, in host memory) of the rank that holds most."""
    size, trained = work.number_bytes, work.trained
    held = sum(_shard(numbers, work.ranks) for numbers in trained)
    updates = [update.stored_numbers for update in work.updates]
    device, host = Held(), Held()
    device.parameters = size * _stored([*(numbers for numbers, _ in work.weights), *updates], work.ranks)
    device.bucket = FP32 * gradient_bucket(trained)
    optimizer = host if work.offload.optimizer else device
    # With a CPU optimizer DeepSpeed accumulates gradients in one host buffer and hands them over in another.
    optimizer.gradients = FP32 * held * (2 if work.offload.optimizer else 1)
    optimizer.master, optimizer.moments = FP32 * held, 2 * FP32 * held
    device.bases = size * _stored([update.own_side * update.columns for update in work.updates], work.ranks)
    device.bases += FP32 * sum(rank * rank for rank in work.input_ranks)
    aside = host if work.offload.bases else device
    aside.bases += FP32 * _bases(work)
    starting = sum(_shard(prod(weight), work.ranks) for weight in work.updated_weights)
    aside.starting_weights = max(size, work.start_bytes) * starting
    host.kept_inputs = _largest_share([moment_bytes(width) for width in work.inputs], work.ranks)
    host.best_state = FP32 * held if work.best is not BestState.ignore else 0
    return device, host


def rows_by_rank(weight: tuple[int, ...], ranks: int, first: int = 0, last: int | None = None) -> np.ndarray:
    """Rows [first, last) of a `weight` (rows, columns) that touch each rank's shard of it, (ranks,) int64."""
    rows, columns = weight
    shard = _shard(rows * columns, ranks)
    begins = np.minimum(np.arange(ranks) * shard, rows * columns)
    ends = np.minimum(begins + shard, rows * columns)
    starts, stops = begins // columns, -(-ends // columns)
    inside = np.minimum(stops, rows if last is None else last) - np.maximum(starts, first)
    return np.where(ends > begins, np.maximum(inside, 0), 0)


def _bases(work: Workload) -> int:
    """Numbers of the fp32 bases on the rank that has most of them."""
    numbers = np.zeros(work.ranks, dtype=np.int64)
    for update in work.updates:
        numbers += _free_rows(update, work.ranks) * update.columns
        if update.columns and update.frozen_rank:  # cut like the update (e, c)
            numbers += rows_by_rank((update.other_side, update.columns), work.ranks) * update.frozen_rank
    return int(numbers.max())


def _free_rows(update: Update, ranks: int) -> np.ndarray:
    """Of the free basis: cut evenly on the input side, like the weight on the output side."""
    if update.shape.on_input:
        return rows_by_rank((update.own_side, 1), ranks)
    return rows_by_rank(update.weight, ranks, update.first_row, update.first_row + update.own_side)


def _shard(numbers: int, ranks: int) -> int:
    return -(-numbers // ranks)


def _stored(sizes: Iterable[int], ranks: int) -> int:
    """Numbers that a rank holds of tensors of these `sizes`."""
    return sum(_shard(size, ranks) + (size if size <= KEPT_WHOLE and ranks > 1 else 0) for size in sizes)


def _largest_share(sizes: Iterable[int], ranks: int) -> int:
    """Of things that go one after the other to the rank that has least."""
    held = [0] * ranks
    for size in sizes:
        held[held.index(min(held))] += size
    return max(held)
