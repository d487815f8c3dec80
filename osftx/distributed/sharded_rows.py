"""Matrices whose rows are distributed over the ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from osftx.distributed.partition import Range, flat_range, overlap, row_range
from osftx.distributed.zero3 import set_aside


def row_ranges(rows: int, columns: int, block: slice | None = None) -> list[Range]:
    """Returns the `row_range` of every rank, for a (rows, columns) parameter.

    With `block`, a slice of the rows, each range holds only rows of the block, counted from its first row.
    """
    begin, end = (block.start, block.stop) if block is not None else (0, rows)
    world_size = dist.get_world_size()
    ranges = [row_range(rows, columns, rank, world_size) for rank in range(world_size)]
    return [(min(max(start, begin), end) - begin, min(max(stop, begin), end) - begin) for start, stop in ranges]


def fetch_rows(shard: Tensor, rows: int, columns: int, wanted: Sequence[Range]) -> Tensor:
    """Returns the rows of a (rows, columns) parameter that this rank wants, whichever ranks hold them. Collective.

    `shard` is this rank's flat ZeRO-3 shard of the parameter, `wanted` the range of rows that each rank wants.
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
    return fetched.view(-1, columns)  # shards are in the order of the ranks, and so are their parts


@dataclass
class ShardedRows:
    """An fp32 matrix (rows, columns), used on `device`, of which each rank keeps a range of the rows."""

    kept: Tensor
    """Rows of this rank. They may be in host memory; `local` returns them on the device."""
    ranges: list[Range]
    """Range of rows that each rank keeps."""
    rows: int
    device: torch.device

    @classmethod
    def keep(cls, matrix: Tensor, ranges: list[Range], on_host: bool) -> "ShardedRows":
        """Returns a matrix of which this rank keeps its own rows, in host memory with `on_host`.

        `matrix` is whole on every rank. `ranges` cover all of its rows, and may overlap.
        """
        start, stop = ranges[dist.get_rank()]
        return cls(set_aside(matrix[start:stop], on_host), ranges, len(matrix), matrix.device)

    @property
    def columns(self) -> int:
        return self.kept.shape[1]

    @property
    def local(self) -> Tensor:
        """Rows of this rank on the device. Rows in host memory are copied at each access."""
        return self.kept.to(self.device, non_blocking=True)

    def gather(self) -> Tensor:
        """Returns the whole matrix on every rank. Collective."""
        longest = max(stop - start for start, stop in self.ranges)
        padded = torch.zeros(longest, self.columns, device=self.device)
        padded[: len(self.kept)] = self.kept
        parts = [torch.empty_like(padded) for _ in self.ranges]
        dist.all_gather(parts, padded)
        matrix = padded.new_empty(self.rows, self.columns)
        for part, (start, stop) in zip(parts, self.ranges, strict=True):
            matrix[start:stop] = part[: stop - start]
        return matrix
