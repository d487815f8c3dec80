"""Reads the weights that a phase starts from, if their files are finer than the precision of training.

A phase that is trained in bfloat16 and saved in float32 passes on more bits than bfloat16 can hold. The next phase
still runs its forward pass on rounded weights, but the sum W0 + dW, which is computed in fp32, uses W0 as it was saved.
"""

from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor

from osftx.distributed.partition import flat_range, row_range
from osftx.distributed.zero3 import Partitioned, whole_shape
from osftx.models.files import tensor_files

FINER = {torch.bfloat16: ("F16", "F32", "F64"), torch.float32: ("F64",)}
"""Precisions of files, by safetensors' names, that lose bits in each precision of training."""


def flat_part(tensor: Any, first: int, last: int) -> Tensor:
    """Returns the elements [first, last) of a flattened `tensor` of a file (a slice of safetensors), on the CPU.

    It reads only the rows in which these elements lie.
    """
    shape = tensor.get_shape()
    if not shape or first == last:  # a scalar has no rows; a shard may be empty
        return cast(Tensor, tensor[...] if not shape else tensor[:0]).flatten()[first:last]
    columns = prod(shape[1:])
    start, stop = first // columns, -(-last // columns)
    return cast(Tensor, tensor[start:stop]).flatten()[first - start * columns : last - start * columns]


class SourceWeights:
    """Reads the parameters of a model from the files of `folder`. Each rank reads for itself; nothing is collective.

    `stored` maps each parameter that is exactly one tensor of the files to that tensor's name; None stands for all
    tensors under their own names. `turned` holds the names of the parameters that the files hold transposed.
    """

    def __init__(self, folder: Path, stored: Mapping[str, str] | None = None, turned: Collection[str] = ()):
        self.files, self.turned = tensor_files(folder), turned
        self.stored = {name: name for name in self.files} if stored is None else stored

    def rows(self, parameter: str, read_as: torch.dtype, start: int, stop: int) -> Tensor | None:
        """Returns the rows [start, stop) of a `parameter` (rows, ...) in fp32, on the CPU.

        Returns None if the files are no finer than `read_as`, the precision of training, or if no tensor is exactly the
        parameter.
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
        """Returns this rank's flat ZeRO-3 shard of a parameter, without padding, on its device; None as for `rows`."""
        rank, world_size = dist.get_rank(), dist.get_world_size()
        shape = whole_shape(parameter)
        height, size = shape[0], shape.numel()
        columns = size // height
        start, stop = row_range(height, columns, rank, world_size)
        first, last = flat_range(size, rank, world_size)
        rows = self.rows(name, parameter.dtype, start, stop)
        if rows is None:
            return None
        return rows.flatten()[first - start * columns : last - start * columns].to(parameter.device)
