"""Sizes of OSFT updates: how many directions of each target are free and how they are stored. Needs no torch."""

from math import floor
from typing import NamedTuple

from osftx.config.schema import SubspaceKind
from osftx.models.targets import Target

TENSOR_CORES = 8
"""Numbers of 16 bits to which the rows of a matrix must be aligned, 16 bytes, for a GPU's fast kernels."""


class UpdateShape(NamedTuple):
    """The trainable update of (a block of) a target's weight."""

    name: str
    shape: tuple[int, int]
    """(out, in) of the matrix."""
    on_input: bool
    """Whether its free directions are input directions; output directions otherwise."""
    free_rank: int

    @property
    def trainable_numbers(self) -> int:
        """The other side times the free rank, without what `stored_columns` fills up."""
        return self.shape[0 if self.on_input else 1] * self.free_rank


def update_shapes(target: Target, ratio: float, subspace: SubspaceKind) -> list[UpdateShape]:
    """The updates of one target at an unfreeze ratio, in the order of the weight's rows.

    By weights, each block frees directions of its short side; by activations, the input directions are what counts,
    and all blocks of a fused weight read the same ones.
    """
    if subspace is SubspaceKind.activations:
        shape = (sum(rows for rows, _ in target.blocks), target.in_features)
        return [UpdateShape(target.name, shape, True, shape[1] - frozen_rank(shape[1], ratio))]
    fused = len(target.blocks) > 1
    return [
        UpdateShape(
            f"{target.name}[{index}]" if fused else target.name,
            shape,
            shape[0] >= shape[1],
            min(shape) - frozen_rank(min(shape), ratio),
        )
        for index, shape in enumerate(target.blocks)
    ]


def stored_columns(free_rank: int, number_bytes: int) -> int:
    """Columns in which a free rank is held, in numbers of this size: of 16 bits, a multiple of `TENSOR_CORES`.

    What is filled up is zero and stays so: no direction, no gradient, no step. Without it `delta`'s gradient took an
    H200 several times what its operations ask for (experiments/performance).
    """
    aligned = TENSOR_CORES if number_bytes == 2 else 1
    return -(-free_rank // aligned) * aligned


def frozen_rank(directions: int, ratio: float) -> int:
    """Directions kept, `k = floor(d * (1 - ratio))` of d; `d - k` are free.

    The small term undoes binary rounding: 10 * (1 - 0.7) must be 3.
    """
    return min(directions, floor(directions * (1.0 - ratio) + 1e-9))
