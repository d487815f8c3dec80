"""What the ranks share: parameters and matrices spread over them, cut as ZeRO-3 cuts a parameter; one's answer."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from torch import Tensor, nn

Answer = TypeVar("Answer")
Range = tuple[int, int]
"""From the first to before the last."""
Partitioned = Any
"""A parameter that ZeRO-3 has cut: DeepSpeed gives it attributes of its own, such as `ds_shape` and `ds_tensor`."""


def agreed(ask: Callable[..., Answer], *arguments: object) -> Answer:
    """What rank 0 answers, on every rank: for questions to the disk, which could change in between. Collective."""
    answer = [ask(*arguments) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(answer)
    return answer[0]  # type: ignore[return-value]


def is_gathered(parameter: nn.Parameter) -> bool:
    """Whether all of a parameter is on this rank: ZeRO-3 has not cut it, has gathered it, or keeps it for its size."""
    return getattr(parameter, "ds_status", ZeroParamStatus.AVAILABLE) is ZeroParamStatus.AVAILABLE


def gathered(parameter: nn.Parameter) -> AbstractContextManager[object]:
    """Gathers a parameter that ZeRO-3 has cut, and lets go of it afterwards. Collective, if it is cut."""
    return nullcontext() if is_gathered(parameter) else deepspeed.zero.GatheredParameters([parameter])


def master_shard(parameter: Partitioned, moment: str | None = None) -> Tensor:
    """This rank's shard of the fp32 master of a trained parameter, or of a `moment` of AdamW: flat, padded, a view.

    It lies where the optimizer keeps it, which may be host memory; DeepSpeed's `safe_get_local_fp32_param` would give
    a copy on the device then, and what is written to that is lost.
    """
    shard, _ = parameter._z3_optimizer._get_fp32_opt_state_partition(
        parameter, release_swap_buffers=True, optim_state_key=moment
    )
    return cast(Tensor, shard)


def set_aside(tensor: Tensor, on_host: bool) -> Tensor:
    """A copy to keep between two steps: where `tensor` is, or in host memory, pinned where there is a GPU."""
    if not on_host:
        return tensor.clone()
    kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=torch.cuda.is_available())
    return kept.copy_(tensor)


def flat_range(elements: int, rank: int, world_size: int) -> Range:
    """The flat elements of a parameter in rank's ZeRO-3 shard: `ceil(elements / world_size)`, less at the end."""
    per_rank = -(-elements // world_size)
    return min(rank * per_rank, elements), min((rank + 1) * per_rank, elements)


def row_range(rows: int, columns: int, rank: int, world_size: int) -> Range:
    """Rows [start, stop) that touch rank's ZeRO-3 shard of a (rows, columns) parameter.

    The row at a border may belong to two ranks.
    """
    first, last = flat_range(rows * columns, rank, world_size)
    if first == last:
        return rows, rows
    return first // columns, -(-last // columns)


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


def overlap(one: Range, other: Range) -> Range:
    """What both have; empty, inside `one`, where that is nothing."""
    start = min(max(one[0], other[0]), one[1])
    return start, max(start, min(one[1], other[1]))


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
