"""A copy in host memory of everything that is trained, to return to a state that training has left."""

from collections.abc import Callable

import torch
from torch import Tensor

from osftx.distributed.engine import Engine
from osftx.distributed.masters import follow_masters, trained_parameters
from osftx.distributed.zero3 import master_shard


class Snapshot:
    """Holds a copy of the fp32 masters: each rank keeps its own shards, four bytes for each trained number.

    `restored` is called after the copy was put back, to update what is computed from the masters.
    """

    def __init__(self, engine: Engine, restored: Callable[[], None]):
        self.parameters = trained_parameters(engine)
        self.restored = restored
        self.shards: dict[str, Tensor] = {}
        """This rank's shards by the names of the parameters: flat, padded as ZeRO-3 pads them. Empty before `take`."""

    def take(self) -> None:
        """Copies the present state, in place of an earlier copy."""
        for name, parameter in self.parameters.items():
            shard = master_shard(parameter).detach()
            self.shards.setdefault(name, torch.empty_like(shard, device="cpu")).copy_(shard)

    def put_back(self) -> None:
        """Restores the copied state, in the masters and in what the forward pass reads. Collective."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                master_shard(parameter).copy_(self.shards[name])
            follow_masters(self.parameters.values())
        self.restored()
