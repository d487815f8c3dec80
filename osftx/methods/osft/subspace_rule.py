"""Defines the interface of a rule that chooses the trainable directions of a target. Needs no torch.

Each rule is one class in one file. A new rule is a file beside `by_weights` and `by_activations`, and a line in
`rules`.
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
"""Alignment of the rows of a matrix, in numbers of 16 bits (16 bytes), that a GPU's fast kernels require."""


class UpdateShape(NamedTuple):
    """Sizes of the trainable update of a target's weight, or of a block of it."""

    name: str
    shape: tuple[int, int]
    """Shape (out, in) of the matrix."""
    on_input: bool
    """Whether the trainable directions are input directions; otherwise they are output directions."""
    free_rank: int

    @property
    def trainable_numbers(self) -> int:
        """Number of trainable numbers: the other side times the free rank, without the padding of `stored_columns`."""
        return self.shape[0 if self.on_input else 1] * self.free_rank


class SubspaceRule(ABC):
    """Chooses a basis of trainable directions for every target."""

    name: ClassVar[str]
    """Value of `osft.subspace` that selects the rule."""
    reads_inputs: ClassVar[bool]
    """Whether the rule needs the covariance of the inputs that must be kept (`preserve.data`, then earlier phases)."""

    @abstractmethod
    def updates(self, target: Target, ratio: float) -> list[UpdateShape]:
        """Returns the updates of one target at an unfreeze ratio, in the order of the weight's rows."""

    @abstractmethod
    def frozen_rank(self, update: UpdateShape) -> int:
        """Returns how many directions the update must avoid on its other side; 0 if there is no such constraint."""

    @abstractmethod
    def find(
        self,
        matrices: "Sequence[Matrix]",
        source: "SourceWeights",
        covariance: "InputCovariance | None",
        cache: "EigenvectorCache",
    ) -> "Iterator[FoundBases]":
        """Yields the bases of every matrix, on every rank. Runs on the ranks. Collective."""


def stored_columns(free_rank: int, number_bytes: int) -> int:
    """Returns the number of columns that store a free rank, a multiple of `TENSOR_CORES` for numbers of 16 bits.

    `number_bytes` are the bytes per number. The padding columns are zero and stay zero: they have no direction, no
    gradient and no step. Without them the gradient of `delta` took several times its operations' share of an H200
    (experiments/performance).
    """
    aligned = TENSOR_CORES if number_bytes == 2 else 1
    return -(-free_rank // aligned) * aligned


def frozen_rank(directions: int, ratio: float) -> int:
    """Returns how many of d `directions` stay frozen at an unfreeze ratio: `k = floor(d * (1 - ratio))`.

    The small term undoes binary rounding: 10 * (1 - 0.7) must be 3.
    """
    return min(directions, floor(directions * (1.0 - ratio) + 1e-9))
