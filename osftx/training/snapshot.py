"""A copy of what is trained, on the host, to go back to: each rank its shards of the fp32 master."""

from collections.abc import Callable

import deepspeed
import torch
from torch import Tensor

from osftx.distributed.masters import follow_masters, trained_parameters
from osftx.distributed.zero3 import master_shard


class Snapshot:
    """Four bytes for each number that is trained, spread over the ranks. `restored`: to be called when the copy was put
    back, for what follows from it."""

    def __init__(self, engine: deepspeed.DeepSpeedEngine, restored: Callable[[], None]):
        self.parameters = trained_parameters(engine)
        self.restored = restored
        self.shards: dict[str, Tensor] = {}
        """Flat, padded as ZeRO-3 pads them; empty until the first `take`."""

    def take(self) -> None:
        for name, parameter in self.parameters.items():
            shard = master_shard(parameter).detach()
            self.shards.setdefault(name, torch.empty_like(shard, device="cpu")).copy_(shard)

    def put_back(self) -> None:
        """Collective."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                master_shard(parameter).copy_(self.shards[name])
            follow_masters(self.parameters.values())
        self.restored()
