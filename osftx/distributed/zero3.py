"""Accesses the parameters that ZeRO-3 partitions: gathers them, and reads their shapes, shards and fp32 masters.

Only this module uses the attributes that DeepSpeed adds to a parameter (`ds_shape`, `ds_tensor`, `ds_status`, ...).
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor, nn

Partitioned = Any
"""A parameter that ZeRO-3 partitions: an `nn.Parameter` to which DeepSpeed adds attributes of its own."""


def partitioned(zero_config: Mapping[str, Any]) -> AbstractContextManager[object]:
    """Returns a context in which every new module has its parameters partitioned over the ranks."""
    return deepspeed.zero.Init(config_dict_or_path=dict(zero_config))


def is_gathered(parameter: nn.Parameter) -> bool:
    """Returns whether this rank holds the whole parameter.

    It does if ZeRO-3 has never partitioned it, has gathered it, or keeps it whole because it is small.
    """
    return getattr(parameter, "ds_status", ZeroParamStatus.AVAILABLE) is ZeroParamStatus.AVAILABLE


def gathered(*parameters: Partitioned) -> AbstractContextManager[object]:
    """Returns a context in which `parameters` are whole on every rank, to be read only. Collective.

    A parameter that was whole before stays whole afterwards; the others are partitioned again.
    """
    cut = [parameter for parameter in parameters if not is_gathered(parameter)]
    return deepspeed.zero.GatheredParameters(cut) if cut else nullcontext()


def gathered_to_write(*parameters: Partitioned) -> AbstractContextManager[object]:
    """Returns a context in which `parameters` are whole on every rank, to be written by rank 0. Collective.

    At its end every rank receives what rank 0 holds, and the parameters are partitioned again.
    """
    return deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0)


def partition_again(parameter: Partitioned) -> None:
    """Releases the gathered copy of a parameter, so that the next gathering reads the shards of all ranks."""
    parameter.partition()


def whole_shape(parameter: Partitioned) -> torch.Size:
    """Returns the shape of the whole parameter; while it is partitioned, ZeRO-3 leaves its own shape empty."""
    return parameter.ds_shape if hasattr(parameter, "ds_shape") else parameter.shape


def shard_of(parameter: Partitioned) -> Tensor:
    """Returns this rank's shard in the precision of training: a flat view, padded at the end."""
    return cast(Tensor, parameter.ds_tensor)


def master_shard(parameter: Partitioned, moment: str | None = None) -> Tensor:
    """Returns this rank's shard of the fp32 master of a trained parameter: a flat view, padded at the end.

    With `moment`, the name of a moment of AdamW such as `exp_avg`, it returns the shard of that moment. The shard is
    where the optimizer keeps it, which may be host memory. In that case DeepSpeed's `safe_get_local_fp32_param` would
    return a copy on the device, and what is written to a copy is lost.
    """
    shard, _ = parameter._z3_optimizer._get_fp32_opt_state_partition(
        parameter, release_swap_buffers=True, optim_state_key=moment
    )
    return cast(Tensor, shard)


def full_master(parameter: Partitioned) -> Tensor:
    """Returns a copy of the whole fp32 master of a trained parameter, on the device of every rank. Collective."""
    return cast(Tensor, safe_get_full_fp32_param(parameter))


def set_parameter(parameter: nn.Parameter, value: Tensor | None) -> None:
    """Sets a partitioned parameter to the `value` on rank 0, in the parameter's own precision. Collective.

    The `value` of the other ranks is ignored.
    """
    with gathered_to_write(parameter):
        if dist.get_rank() == 0 and value is not None:
            parameter.data.copy_(value)


def set_aside(tensor: Tensor, on_host: bool) -> Tensor:
    """Returns a copy of `tensor` to keep between two steps.

    The copy is on the device of `tensor` or, with `on_host`, in host memory, which is pinned if there is a GPU.
    """
    if not on_host:
        return tensor.clone()
    kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=torch.cuda.is_available())
    return kept.copy_(tensor)
