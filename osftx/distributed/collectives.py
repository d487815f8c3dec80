"""Small collective operations that give one rank's answer or tensors to every rank."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Answer = TypeVar("Answer")


def agreed(ask: Callable[..., Answer], *arguments: object) -> Answer:
    """Returns on every rank what `ask(*arguments)` returns on rank 0, which alone calls it. Collective.

    It is for queries to the disk, whose answers could differ between two ranks because the disk changes meanwhile.
    """
    answer = [ask(*arguments) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(answer)
    return answer[0]  # type: ignore[return-value]


def from_owner(
    tensors: list[Tensor] | None, shapes: Sequence[tuple[int, ...]], owner: int, device: torch.device
) -> list[Tensor]:
    """Returns the fp32 `tensors` of the rank `owner`, which have these `shapes`, on every rank. Collective.

    `tensors` is None on the other ranks.
    """
    if tensors is None:
        tensors = [torch.empty(shape, device=device) for shape in shapes]
    for tensor in tensors:
        dist.broadcast(tensor, owner)
    return tensors
