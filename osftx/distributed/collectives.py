"""Small collective operations: one rank's answer or tensors on every rank."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Answer = TypeVar("Answer")


def agreed(ask: Callable[..., Answer], *arguments: object) -> Answer:
    """Returns on every rank what `ask(*arguments)` returns on rank 0, which alone calls it. Collective.

    It is for questions to the disk, which could change between the answers of two ranks.
    """
    answer = [ask(*arguments) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(answer)
    return answer[0]  # type: ignore[return-value]


def from_owner(
    tensors: list[Tensor] | None, shapes: Sequence[tuple[int, ...]], owner: int, device: torch.device
) -> list[Tensor]:
    """Returns the fp32 `tensors` of the rank `owner`, of these `shapes`, on every rank; they are None on the others.

    Collective.
    """
    if tensors is None:
        tensors = [torch.empty(shape, device=device) for shape in shapes]
    for tensor in tensors:
        dist.broadcast(tensor, owner)
    return tensors
