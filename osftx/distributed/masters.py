"""The fp32 master copies of the trained parameters."""

from collections.abc import Iterable

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param

from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero3 import Partitioned, master_shard, set_parameter


def trained_parameters(engine: deepspeed.DeepSpeedEngine) -> dict[str, Partitioned]:
    return {name: parameter for name, parameter in engine.module.named_parameters() if parameter.requires_grad}


def follow_masters(parameters: Iterable[Partitioned]) -> None:
    """Bring what the forward pass reads to the fp32 masters. Collective."""
    for parameter in parameters:
        set_parameter(parameter, safe_get_full_fp32_param(parameter))


def start_masters(engine: deepspeed.DeepSpeedEngine, source: SourceWeights) -> None:
    """DeepSpeed fills the masters from the weights in the precision of training, of which the forward pass sees no more
    either; what the files have beyond that would be gone from the saved model."""
    with torch.no_grad():
        for name, parameter in trained_parameters(engine).items():
            finer = source.shard(name, parameter)
            if finer is not None:
                master_shard(parameter)[: len(finer)].copy_(finer)
