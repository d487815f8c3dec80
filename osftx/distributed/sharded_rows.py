"""Matrices that the ranks share by rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from osftx.distributed.partition import Range, flat_range, overlap, row_range
from osftx.distributed.zero3 import set_aside


def row_ranges(rows: int, columns: int, block: slice | None = None) -> list[Range]:
    """`row_range` of each rank; with a `block` of the rows, the rows of it, counted from its first."""
    begin, end = (block.start, block.stop) if block is not None else (0, rows)
    world_size = dist.get_world_size()
    ranges = [row_range(rows, columns, rank, world_size) for rank in range(world_size)]
    return [(min(max(start, begin), end) - begin, min(max(stop, begin), end) - begin) for start, stop in ranges]


def fetch_rows(shard: Tensor, rows: int, columns: int, wanted: Sequence[Range]) -> Tensor:
    """The rows of a (rows, columns) parameter that this rank wants, from the flat ZeRO-3 `shard` of each. Collective.

    `wanted` are the ranges of rows by rank.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    held = [flat_range(rows * columns, other, world_size) for other in range(world_size)]
    asked = [(start * columns, stop * columns) for start, stop in wanted]
    sends = [overlap(held[rank], other) for other in asked]
    receives = [overlap(other, asked[rank]) for other in held]
    offset = held[rank][0]
    sent = torch.cat([shard[start - offset : stop - offset] for start, stop in sends])
    fetched = shard.new_empty(asked[rank][1] - asked[rank][0])
    dist.all_to_all_single(
        fetched, sent, [stop - start for start, stop in receives], [stop - start for start, stop in sends]
    )
    return fetched.view(-1, columns)  # shards lie in the order of the ranks, so do their parts


@dataclass
class ShardedRows:
    """An fp32 matrix (rows, columns), to be used on `device`; this rank keeps rows [start, stop)."""

    kept: Tensor
    """They may wait in host memory: see `local`."""
    ranges: list[Range]
    rows: int
    device: torch.device

    @classmethod
    def keep(cls, matrix: Tensor, ranges: list[Range], on_host: bool) -> "ShardedRows":
        """Keep this rank's rows of `matrix`; the ranges of all ranks cover it, and may overlap."""
        start, stop = ranges[dist.get_rank()]
        return cls(set_aside(matrix[start:stop], on_host), ranges, len(matrix), matrix.device)

    @property
    def columns(self) -> int:
        return self.kept.shape[1]

    @property
    def local(self) -> Tensor:
        """This rank's rows, on the device: fetched anew each time if they wait in host memory."""
        return self.kept.to(self.device, non_blocking=True)

    def gather(self) -> Tensor:
        """The whole matrix, on every rank. Collective: all ranks call it in the same order."""
        longest = max(stop - start for start, stop in self.ranges)
        padded = torch.zeros(longest, self.columns, device=self.device)
        padded[: len(self.kept)] = self.kept
        parts = [torch.empty_like(padded) for _ in self.ranges]
        dist.all_gather(parts, padded)
        matrix = padded.new_empty(self.rows, self.columns)
        for part, (start, stop) in zip(parts, self.ranges, strict=True):
            matrix[start:stop] = part[: stop - start]
        return matrix
