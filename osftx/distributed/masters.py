"""The fp32 master copies of the trained parameters."""

from collections.abc import Iterable

import torch

from osftx.distributed.engine import Engine
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero3 import Partitioned, full_master, master_shard, set_parameter


def trained_parameters(engine: Engine) -> dict[str, Partitioned]:
    """Returns the trained parameters of the engine's model, by their names in the model."""
    return {name: parameter for name, parameter in engine.module.named_parameters() if parameter.requires_grad}


def follow_masters(parameters: Iterable[Partitioned]) -> None:
    """Sets each of the `parameters`, which the forward pass reads, to the value of its fp32 master. Collective."""
    for parameter in parameters:
        set_parameter(parameter, full_master(parameter))


def start_masters(engine: Engine, source: SourceWeights) -> None:
    """Sets the fp32 masters to the weights in the files if those are finer than the precision of training.

    DeepSpeed fills the masters from the weights in the precision of training. The forward pass uses no more than that
    precision, but the additional bits of the files would be missing from the saved model.
    """
    with torch.no_grad():
        for name, parameter in trained_parameters(engine).items():
            finer = source.shard(name, parameter)
            if finer is not None:
                master_shard(parameter)[: len(finer)].copy_(finer)
