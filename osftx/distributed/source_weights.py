"""The weights that a phase starts from, where their files are finer than the precision in which they are trained.

A phase that was trained in bfloat16 and saved in float32 hands on what bfloat16 has no room for. The next one's forward
pass runs on rounded weights all the same, but what is added up in fp32, W0 + dW, begins with W0 as it was saved.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor

from osftx.distributed.partition import flat_range, row_range
from osftx.distributed.zero3 import Partitioned
from osftx.models.files import tensor_files

FINER = {torch.bfloat16: ("F16", "F32", "F64"), torch.float32: ("F64",)}
"""What loses bits when it is read as this, as safetensors calls it."""


class SourceWeights:
    """The parameters of a model in the files of `folder`. Every rank reads what it asks for, so nothing is collective.

    `stored` are the names in the files, by parameter, of those that a tensor of them is (None: all, under their own
    names); `turned` the parameters that the files hold transposed.
    """

    def __init__(self, folder: Path, stored: Mapping[str, str] | None = None, turned: Collection[str] = ()):
        self.files, self.turned = tensor_files(folder), turned
        self.stored = {name: name for name in self.files} if stored is None else stored

    def rows(self, parameter: str, read_as: torch.dtype, start: int, stop: int) -> Tensor | None:
        """Rows [start, stop) of a `parameter` (rows, ...) in fp32, on the CPU.

        None where the file has no more than a model that was `read_as` this, or no tensor that is the parameter.
        """
        name = self.stored.get(parameter)
        if name is None:
            return None
        with safe_open(self.files[name], framework="pt") as file:
            tensor = file.get_slice(name)
            if tensor.get_dtype() not in FINER[read_as]:
                return None
            rows: Tensor = tensor[:, start:stop].T if parameter in self.turned else tensor[start:stop]
        return rows.to(torch.float32)

    def shard(self, name: str, parameter: Partitioned) -> Tensor | None:
        """This rank's ZeRO-3 shard of a parameter, flat, without padding, on its device; None as for `rows`."""
        rank, world_size = dist.get_rank(), dist.get_world_size()
        height = parameter.ds_shape[0]
        columns = parameter.ds_numel // height
        start, stop = row_range(height, columns, rank, world_size)
        first, last = flat_range(parameter.ds_numel, rank, world_size)
        rows = self.rows(name, parameter.dtype, start, stop)
        if rows is None:
            return None
        return rows.flatten()[first - start * columns : last - start * columns].to(parameter.device)
