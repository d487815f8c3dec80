"""What decides which directions of a target are trainable: one class a rule, one file a rule. Needs no torch.

A new rule is a file beside `by_weights` and `by_activations`, and a line in `rules`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from math import floor
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from osftx.models.targets import Target

if TYPE_CHECKING:
    from osftx.distributed.source_weights import SourceWeights
    from osftx.methods.covariance.covariance import InputCovariance
    from osftx.methods.osft.eigenvector_cache import EigenvectorCache
    from osftx.methods.osft.subspace import FoundBases, Matrix

TENSOR_CORES = 8
"""Numbers of 16 bits to which the rows of a matrix must be aligned, 16 bytes, for a GPU's fast kernels."""


class UpdateShape(NamedTuple):
    """Sizes of the trainable update of (a block of) a target's weight."""

    name: str
    shape: tuple[int, int]
    """(out, in) of the matrix."""
    on_input: bool
    """Whether its trainable directions are input directions; output directions otherwise."""
    free_rank: int

    @property
    def trainable_numbers(self) -> int:
        """The other side times the free rank, without what `stored_columns` fills up."""
        return self.shape[0 if self.on_input else 1] * self.free_rank


class SubspaceRule(ABC):
    """Chooses a basis of trainable directions for every target."""

    name: ClassVar[str]
    """The value of `osft.subspace`."""
    reads_inputs: ClassVar[bool]
    """Whether it needs the covariance of the inputs that must be kept (`preserve.data`, then earlier phases)."""

    @abstractmethod
    def updates(self, target: Target, ratio: float) -> list[UpdateShape]:
        """Returns the updates of one target at an unfreeze ratio, in the order of the weight's rows."""

    @abstractmethod
    def frozen_rank(self, update: UpdateShape) -> int:
        """Returns how many directions the update must avoid on its other side; 0 where there is no such constraint."""

    @abstractmethod
    def find(
        self,
        matrices: "Sequence[Matrix]",
        source: "SourceWeights",
        covariance: "InputCovariance | None",
        cache: "EigenvectorCache",
    ) -> "Iterator[FoundBases]":
        """Yields the bases of every matrix, on every rank. Runs on the ranks; collective."""


def stored_columns(free_rank: int, number_bytes: int) -> int:
    """Returns the columns in which a free rank is stored, for numbers of this size: a multiple of `TENSOR_CORES` at
    16 bits.

    The columns that are filled up are zero and stay zero: no direction, no gradient, no step. Without them the gradient
    of `delta` took several times its operations' share of an H200 (experiments/performance).
    """
    aligned = TENSOR_CORES if number_bytes == 2 else 1
    return -(-free_rank // aligned) * aligned


def frozen_rank(directions: int, ratio: float) -> int:
    """Returns how many of d `directions` stay frozen at an unfreeze ratio: `k = floor(d * (1 - ratio))`.

    The small term undoes binary rounding: 10 * (1 - 0.7) must be 3.
    """
    return min(directions, floor(directions * (1.0 - ratio) + 1e-9))
