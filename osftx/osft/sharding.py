"""What the ranks share: matrices whose rows are spread over them, cut as ZeRO-3 cuts a parameter; one's answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Answer = TypeVar("Answer")


def agreed(ask: Callable[..., Answer], *arguments: object) -> Answer:
    """What rank 0 answers, on every rank: for questions to the disk, which could change in between. Collective."""
    answer = [ask(*arguments) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(answer)
    return answer[0]  # type: ignore[return-value]


def row_range(rows: int, columns: int, rank: int, world_size: int) -> tuple[int, int]:
    """Rows [start, stop) that touch rank's ZeRO-3 shard of a (rows, columns) parameter.

    A shard is `ceil(rows * columns / world_size)` flat elements, so the row at a border may belong to two ranks.
    """
    per_rank = -(-rows * columns // world_size)
    first = min(rank * per_rank, rows * columns)
    last = min(first + per_rank, rows * columns)
    if first == last:
        return rows, rows
    return first // columns, -(-last // columns)


@dataclass
class ShardedRows:
    """An fp32 matrix (rows, columns); this rank keeps rows [start, stop)."""

    local: Tensor
    ranges: list[tuple[int, int]]
    rows: int

    @classmethod
    def keep(cls, matrix: Tensor, cut_columns: int) -> "ShardedRows":
        """Keep this rank's rows of `matrix`, cut like a ZeRO-3 parameter of shape (rows, cut_columns)."""
        world_size = dist.get_world_size()
        ranges = [row_range(len(matrix), cut_columns, rank, world_size) for rank in range(world_size)]
        start, stop = ranges[dist.get_rank()]
        return cls(matrix[start:stop].clone(), ranges, len(matrix))

    def gather(self) -> Tensor:
        """The whole matrix, on every rank. Collective: all ranks call it in the same order."""
        longest = max(stop - start for start, stop in self.ranges)
        padded = self.local.new_zeros(longest, self.local.shape[1])
        padded[: len(self.local)] = self.local
        parts = [torch.empty_like(padded) for _ in self.ranges]
        dist.all_gather(parts, padded)
        whole = self.local.new_empty(self.rows, self.local.shape[1])
        for part, (start, stop) in zip(parts, self.ranges, strict=True):
            whole[start:stop] = part[: stop - start]
        return whole
