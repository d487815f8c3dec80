"""Computes the sizes of an OSFT phase from shapes: updates, bases, start weights and records. Needs no torch."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from osftx.distributed.partition import rows_by_rank, shard_size
from osftx.methods.covariance.index import moment_bytes
from osftx.methods.osft.rules import rule_of
from osftx.methods.osft.subspace_rule import UpdateShape, stored_columns
from osftx.methods.sizes import FP32, FP64, Held, MethodDisk, MethodSizes, Shape, Workload, distinct_input


class Update(NamedTuple):
    """The update of a target or of a block of it, and where that block lies in the weight."""

    weight: Shape
    first_row: int
    shape: UpdateShape
    frozen_rank: int
    """Number of directions of the other side that the update must avoid."""
    columns: int
    """Number of columns of `basis` and `delta`, which store the free rank."""

    @property
    def own_side(self) -> int:
        """Size d of `decomposition.Bases`."""
        rows, columns = self.shape.shape
        return columns if self.shape.on_input else rows

    @property
    def other_side(self) -> int:
        """Size e of `decomposition.Bases`."""
        rows, columns = self.shape.shape
        return rows if self.shape.on_input else columns

    @property
    def stored_numbers(self) -> int:
        """Count of numbers of `delta` as the optimizer sees it."""
        return self.other_side * self.columns


def sizes(work: Workload) -> MethodSizes:
    """Returns what an OSFT phase trains and holds."""
    found = updates(work)
    targets = {f"{target.name}.weight" for target in work.targets}
    whole = work.ratio == 1.0
    others = work.osft.train_others
    trained = {name for name in work.shapes if (whole if name in targets else others)}
    trainable, frozen = _numbers(work, trained)
    device, host = _held(work, found)
    bases = [update.own_side * update.columns for update in found]
    shards = [FP32 * shard_size(prod(update.weight), work.ranks) for update in found]
    return MethodSizes(
        trainable=trainable,
        frozen=frozen,
        trained_weights=trained,
        trains_norms=others,
        added=[update.stored_numbers for update in found],
        added_frozen=bases,
        device=device,
        host=host,
        after_step=max(shards, default=0) + 2 * FP32 * max(bases, default=0),  # weights are merged one by one
        disk=_disk(work, found),
    )


def updates(work: Workload) -> list[Update]:
    """Returns the update of every target that has a subspace.

    There is none at ratio 0 (nothing is trained) and at ratio 1 (all is trained).
    """
    if work.ratio is None or not 0.0 < work.ratio < 1.0:
        return []
    rule = rule_of(work.osft)
    found = []
    for target in work.targets:
        first_row = 0
        for shape in rule.updates(target, work.ratio):
            columns = stored_columns(shape.free_rank, work.number_bytes)
            found.append(Update(target.weight_shape, first_row, shape, rule.frozen_rank(shape), columns))
            first_row += shape.shape[0]
    return found


def inputs(work: Workload) -> list[int]:
    """Returns the number of features of each distinct input of the targets whose covariance is kept."""
    if not rule_of(work.osft).reads_inputs:
        return []
    distinct = {distinct_input(target.name, target.in_features): target.in_features for target in work.targets}
    return list(distinct.values())


def _numbers(work: Workload, trained: set[str]) -> tuple[int, int]:
    """Returns the counts of trained and frozen numbers that the plan shows, without the padding of columns."""
    parameters = work.parameters
    assert work.ratio is not None
    rule = rule_of(work.osft)
    shapes = (shape for target in work.targets for shape in rule.updates(target, work.ratio))
    trainable = sum(shape.trainable_numbers for shape in shapes)
    # At ratio 1 the targets themselves are trained, otherwise an update beside frozen weights.
    frozen = parameters - (trainable if work.ratio == 1.0 else 0)
    if work.osft.train_others:
        others = parameters - sum(rows * columns for target in work.targets for rows, columns in target.blocks)
        trainable, frozen = trainable + others, frozen - others
    return trainable, frozen


def _held(work: Workload, found: Sequence[Update]) -> tuple[Held, Held]:
    """Returns what a rank holds on the device, and in host memory, in addition to parameters and optimizer."""
    device, host = Held(), Held()
    aside = host if work.offload.bases else device
    aside.bases += FP32 * _fp32_bases(work, found)
    device.bases += FP32 * sum(rank * rank for rank in _input_ranks(work, found))
    starting = sum(shard_size(prod(update.weight), work.ranks) for update in found if update.first_row == 0)
    aside.starting_weights = max(work.number_bytes, work.start_bytes) * starting
    host.kept_inputs = _largest_share([moment_bytes(width) for width in inputs(work)], work.ranks)
    return device, host


def _fp32_bases(work: Workload, found: Sequence[Update]) -> int:
    """Returns the count of numbers of the fp32 bases on the rank that has most of them."""
    numbers = np.zeros(work.ranks, dtype=np.int64)
    for update in found:
        numbers += _free_rows(update, work.ranks) * update.columns
        if update.columns and update.frozen_rank:  # divided like the update (e, c)
            numbers += rows_by_rank((update.other_side, update.columns), work.ranks) * update.frozen_rank
    return int(numbers.max())


def _free_rows(update: Update, ranks: int) -> np.ndarray:
    """Returns the number of rows of the trainable basis on each rank.

    They are divided evenly on the input side, and like the weight on the output side.
    """
    if update.shape.on_input:
        return rows_by_rank((update.own_side, 1), ranks)
    rows, columns = update.weight
    return rows_by_rank((rows, columns), ranks, update.first_row, update.first_row + update.own_side)


def _input_ranks(work: Workload, found: Sequence[Update]) -> list[int]:
    """Returns the free rank of each distinct input; every rank holds the whole energy of each."""
    if not rule_of(work.osft).reads_inputs:
        return []
    distinct = {distinct_input(update.shape.name, update.own_side): update.shape.free_rank for update in found}
    return list(distinct.values())


def _disk(work: Workload, found: Sequence[Update]) -> MethodDisk:
    by_inputs = rule_of(work.osft).reads_inputs
    bases = FP32 * sum(
        update.own_side * update.shape.free_rank + update.other_side * update.frozen_rank for update in found
    )
    if by_inputs:  # each file of bases includes the energies
        bases += FP32 * sum(update.shape.free_rank**2 for update in found)
    eigenvectors = FP64 * sum(min(update.shape.shape) ** 2 for update in found)
    if by_inputs:
        eigenvectors = FP32 * sum(width * width for width in inputs(work))
    return MethodDisk(
        bases=bases if work.osft.save_bases else 0,
        unsaved_bases=0 if work.osft.save_bases else bases,
        kept_inputs=sum(moment_bytes(width) for width in inputs(work)),
        eigenvectors=eigenvectors,
    )


def _largest_share(sizes: Iterable[int], ranks: int) -> int:
    """Returns the largest sum on a rank if each item goes to the rank that has least so far."""
    held = [0] * ranks
    for size in sizes:
        held[held.index(min(held))] += size
    return max(held)
