"""Data types of the subspaces of a phase: the matrix that each belongs to, its trained update and its bases."""

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
    """One matrix whose subspace is to be found: `rows` of a partitioned weight, and its update."""

    shape: UpdateShape
    module_name: str
    weight_name: str
    weight: Partitioned
    rows: slice
    update: FreeUpdate

    @property
    def file(self) -> str:
        """Name of the file that holds the bases of the matrix."""
        return f"{self.shape.name}.safetensors"


class UseOfKept(NamedTuple):
    """Measures of the inputs x that must be kept, for a matrix W0 and its trainable directions F."""

    output_power: float
    """Power of the layer's output on the inputs that must be kept, E ||W0 x||^2."""
    free_input_share: float
    """Subspace overlap of the inputs that must be kept, sqrt(E ||F^T x||^2 / E ||x||^2): the share of their length that
    the update can change."""


class FoundBases(NamedTuple):
    """The bases of one matrix, on every rank."""

    matrix: Matrix
    bases: Bases
    use: UseOfKept | None
    """Measures of the inputs that must be kept; None if the rule reads no inputs."""


@dataclass
class Subspace:
    """The trainable subspace of one matrix (m, n): the update and its fp32 bases, which are distributed over the ranks.

    ZeRO-3 holds a copy of the trainable basis in the precision of training. The projection, the weight update and the
    export need the exact basis, since bf16 bases alone would leak about 1e-3. Sizes are those of `decomposition.Bases`.
    """

    name: str
    weight_name: str
    """Name of the checkpoint's tensor that this matrix is, or of which it is a block of rows."""
    weight: Partitioned
    """The partitioned tensor, which is W0 + dW during training."""
    rows: slice
    """Rows of the matrix within that tensor."""
    weight_rows: list[Range]
    """Rows of the matrix, counted from its first, that touch the shard of the weight on each rank."""
    update: FreeUpdate
    free_rank: int
    """Number r of trainable directions; the update stores them in c columns."""
    free: ShardedRows
    """Trainable basis (d, c), padded like the update. On the output side it is divided over the ranks like the weight,
    so that the weight update finds the rows of its shard on its own rank."""
    frozen: ShardedRows
    """Frozen basis (e, k), divided where ZeRO-3 divides `delta` (e, c), so that the projection finds its rows on its
    own rank."""
    energy: Tensor
    """The `energy` of the bases, (r, r) on every rank; (0, 0) if the rule reads no inputs."""
    kept: UseOfKept | None

    def bases(self) -> Bases:
        """Returns the whole bases, on every rank. Collective."""
        free = self.free.gather()[:, : self.free_rank]
        return Bases(self.update.on_input, free, self.frozen.gather(), self.energy)


def gather(matrix: Matrix, source: SourceWeights, owner: int) -> Tensor | None:
    """Returns the whole matrix in fp32 on rank `owner`, None on the others. Collective."""
    weight, rows = matrix.weight, matrix.rows
    with gathered(weight):
        if owner != dist.get_rank():
            return None
        finer = source.rows(matrix.weight_name, weight.dtype, rows.start, rows.stop)
        return weight.data[rows].to(torch.float32, copy=True) if finer is None else finer.to(weight.device)
