"""Put the trained updates into the weights: `W = W0 + dW` after each optimizer step, each rank its shard of W.

From the fp32 master of `delta` and the fp32 basis, always from W0, in fp32, rounded once: increments added to a bf16
weight would gather its rounding.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor

from osftx.distributed.partition import flat_range, row_range
from osftx.distributed.sharded_rows import fetch_rows
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero3 import Partitioned, is_gathered, master_shard, set_aside
from osftx.methods.osft.setup import Subspace


class Merging:
    """Made before the first step: the weights are W0 then, of which each rank keeps a copy of its shard (`on_host`: in
    host memory), from the files of `source` where those are finer.

    To be called after each projection, and when `delta` was restored.
    """

    def __init__(self, subspaces: Sequence[Subspace], source: SourceWeights, on_host: bool = False):
        self.blocks: dict[Partitioned, list[Subspace]] = defaultdict(list)
        for space in subspaces:
            self.blocks[space.weight].append(space)
        self.before: dict[Partitioned, Tensor] = {}
        for weight, blocks in self.blocks.items():
            finer = source.shard(blocks[0].weight_name, weight)
            self.before[weight] = set_aside(weight.ds_tensor if finer is None else finer, on_host)

    def __call__(self) -> None:
        """Collective."""
        with torch.no_grad():
            for weight, blocks in self.blocks.items():
                _merge(weight, self.before[weight], blocks)
                if is_gathered(weight):  # ZeRO-3 had gathered the weight as it was before
                    weight.partition()


def _merge(weight: Partitioned, before: Tensor, blocks: Sequence[Subspace]) -> None:
    """`weight` (m, n) is made of `before`, this rank's shard of W0, and the updates of its blocks of rows."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    rows, columns = weight.ds_shape
    start, stop = row_range(rows, columns, rank, world_size)
    first, last = flat_range(rows * columns, rank, world_size)
    merged = torch.zeros(stop - start, columns, device=weight.device)  # whole rows, more than the shard
    shard = merged.view(-1)[first - start * columns : last - start * columns] if last > first else merged.view(-1)
    shard.copy_(before[: last - first])
    for space in blocks:
        output_side, input_side = _factors(space)
        begin, end = (space.rows.start + row - start for row in space.weight_rows[rank])
        if end > begin:
            merged[begin:end].addmm_(output_side, input_side.T)
    weight.ds_tensor[: last - first].copy_(shard)


def _factors(space: Subspace) -> tuple[Tensor, Tensor]:
    """A (rows of this rank, c) and B (n, c), with A B^T this rank's rows of dW. Collective."""
    delta = space.update.delta
    if not space.update.on_input:
        return space.free.local, safe_get_full_fp32_param(delta)
    master = master_shard(delta).to(space.free.device)
    local = fetch_rows(master, space.update.other_side, space.update.columns, space.weight_rows)
    return local, space.free.gather()
