"""The subspaces of a phase: which matrix each belongs to, its trained update and its bases."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from osftx.distributed.partition import Range
from osftx.distributed.sharded_rows import ShardedRows
from osftx.distributed.source_weights import SourceWeights
from osftx.distributed.zero3 import Partitioned, gathered
from osftx.methods.osft.decomposition import Bases
from osftx.methods.osft.layer import FreeUpdate
from osftx.methods.osft.subspace_rule import UpdateShape


class Matrix(NamedTuple):
    """One matrix to find the subspace of: `rows` of a partitioned weight, and its update."""

    shape: UpdateShape
    module_name: str
    weight_name: str
    weight: Partitioned
    rows: slice
    update: FreeUpdate

    @property
    def file(self) -> str:
        """The name of the file that holds its bases."""
        return f"{self.shape.name}.safetensors"


class UseOfKept(NamedTuple):
    """What the inputs x that must be kept make of a matrix W0 and of its trainable directions F."""

    output_power: float
    """E ||W0 x||^2."""
    free_input_share: float
    """sqrt(E ||F^T x||^2 / E ||x||^2): how much of what is kept the update can change."""


class FoundBases(NamedTuple):
    """The bases of one matrix, on every rank."""

    matrix: Matrix
    bases: Bases
    use: UseOfKept | None
    """None where the rule reads no inputs."""


@dataclass
class Subspace:
    """The trainable subspace of one matrix (m, n): the update and, spread over the ranks, its fp32 bases.

    ZeRO-3 holds a copy of the trainable basis in the precision of training. The projection, the weight update and the
    export need the exact one, since bf16 bases alone would leak about 1e-3. Sizes are those of `decomposition.Bases`.
    """

    name: str
    weight_name: str
    """The tensor in the checkpoint that this matrix is (a block of rows of)."""
    weight: Partitioned
    """That tensor, partitioned: W0 + dW while training."""
    rows: slice
    """The matrix's rows within that tensor."""
    weight_rows: list[Range]
    """Those of them, counted from the first, that touch each rank's shard of the weight."""
    update: FreeUpdate
    free_rank: int
    """r, which the update holds in c columns."""
    free: ShardedRows
    """(d, c), filled up as the update is. On the output side it is divided like the weight, so that the weight update
    finds the rows of its shard at hand."""
    frozen: ShardedRows
    """(e, k), divided where ZeRO-3 divides `delta` (e, c), so that the projection finds its rows at hand."""
    energy: Tensor
    """(r, r) on every rank; (0, 0) where the rule reads no inputs."""
    kept: UseOfKept | None

    def bases(self) -> Bases:
        """Returns the whole bases, on every rank. Collective."""
        free = self.free.gather()[:, : self.free_rank]
        return Bases(self.update.on_input, free, self.frozen.gather(), self.energy)


def gather(matrix: Matrix, source: SourceWeights, owner: int) -> Tensor | None:
    """Returns the whole matrix in fp32 on rank `owner`, None elsewhere. Collective."""
    weight, rows = matrix.weight, matrix.rows
    with gathered(weight):
        if owner != dist.get_rank():
            return None
        finer = source.rows(matrix.weight_name, weight.dtype, rows.start, rows.stop)
        return weight.data[rows].to(torch.float32, copy=True) if finer is None else finer.to(weight.device)
