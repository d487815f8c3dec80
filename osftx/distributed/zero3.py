"""What the ranks share: parameters and matrices spread over them, cut as ZeRO-3 cuts a parameter; one's answer."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from torch import Tensor, nn

Partitioned = Any
"""A parameter that ZeRO-3 has cut: DeepSpeed gives it attributes of its own, such as `ds_shape` and `ds_tensor`."""


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


def set_parameter(parameter: nn.Parameter, value: Tensor | None) -> None:
    """Give a partitioned parameter the value that rank 0 holds, in its own precision. Collective."""
    with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
        if dist.get_rank() == 0 and value is not None:
            parameter.data.copy_(value)
