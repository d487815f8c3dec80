"""Keeps every update in its trainable subspace: projects the fp32 master of `delta` after each optimizer step.

AdamW scales each element separately and thereby turns a step out of the subspace, even if the gradient was projected.
The fp32 master is projected because the weight update and the export read it, whereas nothing reads the copy in the
precision of training.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from osftx.distributed.partition import flat_range
from osftx.distributed.zero3 import master_shard
from osftx.methods.osft.subspace import Subspace

BUCKET_ELEMENTS = 16 * 1024 * 1024
"""Number of fp32 coefficients in one all-reduce: large enough for bandwidth, small enough not to be a memory peak (64
MiB)."""


class Projection:
    """Applies `delta -= Q (Q^T delta)` for each subspace, on the shards of `delta`, with Q its frozen directions."""

    def __init__(self, subspaces: Sequence[Subspace]):
        self.buckets = list(_buckets([space for space in subspaces if space.frozen.columns > 0]))

    def __call__(self) -> None:
        with torch.no_grad():
            for bucket in self.buckets:
                self._project(bucket)

    def _project(self, bucket: Sequence[Subspace]) -> None:
        rows = [_whole_rows(space) for space in bucket]
        coefficients = [space.frozen.local.T @ whole for space, (whole, _, _) in zip(bucket, rows, strict=True)]
        flat = torch.cat([block.flatten() for block in coefficients])
        dist.all_reduce(flat)
        offset = 0
        for space, block, (whole, shard, begin) in zip(bucket, coefficients, rows, strict=True):
            summed = flat[offset : offset + block.numel()].view_as(block)
            offset += block.numel()
            kept = whole - space.frozen.local @ summed
            shard.copy_(kept.flatten()[begin : begin + shard.numel()])


def _whole_rows(space: Subspace) -> tuple[Tensor, Tensor, int]:
    """Returns this rank's shard of `delta`'s fp32 master as whole rows, the shard (a view), and its offset in the rows.

    If a row is split between two ranks, the other rank's elements are zeros, so that the sum of all ranks' coefficients
    counts each element once.
    """
    row_count, columns = space.update.other_side, space.update.columns
    shard = master_shard(space.update.delta)
    first, last = flat_range(row_count * columns, dist.get_rank(), dist.get_world_size())
    valid = last - first
    start, stop = space.frozen.ranges[dist.get_rank()]
    begin = first - start * columns if valid else 0
    whole = torch.zeros((stop - start) * columns, device=space.frozen.device)
    whole[begin : begin + valid] = shard[:valid]
    return whole.view(stop - start, columns), shard[:valid], begin


def _buckets(subspaces: Sequence[Subspace]) -> Iterator[list[Subspace]]:
    bucket: list[Subspace] = []
    size = 0
    for space in subspaces:
        elements = space.frozen.columns * space.update.columns
        if bucket and size + elements > BUCKET_ELEMENTS:
            yield bucket
            bucket, size = [], 0
        bucket.append(space)
        size += elements
    if bucket:
        yield bucket
