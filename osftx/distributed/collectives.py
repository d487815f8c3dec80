"""Small collective operations on Python objects."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

Answer = TypeVar("Answer")


def agreed(ask: Callable[..., Answer], *arguments: object) -> Answer:
    """Returns on every rank what `ask(*arguments)` returns on rank 0, which alone calls it. Collective.

    It is for questions to the disk, which could change between the answers of two ranks.
    """
    answer = [ask(*arguments) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(answer)
    return answer[0]  # type: ignore[return-value]
