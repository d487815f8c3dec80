"""Puts the trained updates into the weights: W = W0 + dW after each optimizer step, on each rank in its shard of W.

dW is computed in fp32 from the fp32 master of `delta` and the fp32 basis. It is always added to W0, and the sum is
rounded once: increments that are added to a bfloat16 weight would accumulate its rounding errors.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from osftx.distributed.partition import flat_range, row_range
from osftx.distributed.sharded_rows import fetch_rows
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero3 import (
    Partitioned,
    full_master,
    is_gathered,
    master_shard,
    partition_again,
    set_aside,
    shard_of,
    whole_shape,
)
from osftx.methods.osft.subspace import Subspace


class Merging:
    """Sets the weights to W0 + dW. It is called after each projection, and after `delta` was restored.

    It is constructed before the first step, while the weights still are W0. Each rank keeps a copy of its shard of W0,
    in host memory with `on_host`. The copy comes from the files of `source` if those are finer than the precision of
    training.
    """

    def __init__(self, subspaces: Sequence[Subspace], source: SourceWeights, on_host: bool = False):
        self.blocks: dict[Partitioned, list[Subspace]] = defaultdict(list)
        for space in subspaces:
            self.blocks[space.weight].append(space)
        self.before: dict[Partitioned, Tensor] = {}
        for weight, blocks in self.blocks.items():
            finer = source.shard(blocks[0].weight_name, weight)
            self.before[weight] = set_aside(shard_of(weight) if finer is None else finer, on_host)

    def __call__(self) -> None:
        """Updates every weight. Collective."""
        with torch.no_grad():
            for weight, blocks in self.blocks.items():
                _merge(weight, self.before[weight], blocks)
                if is_gathered(weight):  # ZeRO-3 had gathered the weight as it was before
                    partition_again(weight)


def _merge(weight: Partitioned, before: Tensor, blocks: Sequence[Subspace]) -> None:
    """Sets this rank's shard of `weight` (m, n) to `before`, its shard of W0, plus the updates of its blocks."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    rows, columns = whole_shape(weight)
    start, stop = row_range(rows, columns, rank, world_size)
    first, last = flat_range(rows * columns, rank, world_size)
    merged = torch.zeros(stop - start, columns, device=weight.device)  # whole rows, which may exceed the shard
    shard = merged.view(-1)[first - start * columns : last - start * columns] if last > first else merged.view(-1)
    shard.copy_(before[: last - first])
    for space in blocks:
        output_side, input_side = _factors(space)
        begin, end = (space.rows.start + row - start for row in space.weight_rows[rank])
        if end > begin:
            merged[begin:end].addmm_(output_side, input_side.T)
    shard_of(weight)[: last - first].copy_(shard)


def _factors(space: Subspace) -> tuple[Tensor, Tensor]:
    """Returns A (rows of this rank, c) and B (n, c), whose product A B^T is this rank's rows of dW. Collective."""
    delta = space.update.delta
    if not space.update.on_input:
        return space.free.local, full_master(delta)
    master = master_shard(delta).to(space.free.device)
    local = fetch_rows(master, space.update.other_side, space.update.columns, space.weight_rows)
    return local, space.free.gather()
