"""Where the training of whole weights begins: their fp32 masters at what the files hold, not at what was read of it."""

import deepspeed
import torch

from osftx.osft.sharding import master_shard
from osftx.osft.source_weights import SourceWeights
from osftx.training.snapshot import trained_parameters


def start_masters(engine: deepspeed.DeepSpeedEngine, source: SourceWeights) -> None:
    """DeepSpeed fills the masters from the weights in the precision of training, of which the forward pass sees no more
    either; what the files have beyond that would be gone from the saved model."""
    with torch.no_grad():
        for name, parameter in trained_parameters(engine).items():
            finer = source.shard(name, parameter)
            if finer is not None:
                master_shard(parameter)[: len(finer)].copy_(finer)
