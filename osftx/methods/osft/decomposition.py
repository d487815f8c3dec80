"""Split the directions of a matrix into frozen and free. Pure linear algebra, one matrix at a time.

By the weight: Nayak et al., "Sculpting Subspaces" (arXiv 2504.07097), section 3. By the inputs: the free directions are
those that the inputs to be kept use least, as in Gradient Projection Memory (Saha et al., arXiv 2103.09762), on the
input side alone. The converged subspaces matter, the values at the cut do not. A Gram matrix squares the condition
number: in fp64 the subspaces at the usual cuts stay right to 1e-6 for condition numbers up to 1e8 (only a cut among the
very smallest values suffers from about 1e7 on), where an fp32 Gram matrix loses them from about 1e3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

UNUSED = 1e-6
"""Energy, relative to the mean of all input directions, below which one direction is as unused as another."""


@dataclass(frozen=True)
class Bases:
    """Orthonormal bases for the update of one matrix of shape (m, n), in fp32.

    With (d, e) = (n, m) where the update is free on the input side, and (m, n) otherwise:
    `dW = delta @ free.T` on the input side, `free @ delta.T` on the output side, and `frozen.T @ delta = 0`.
    """

    on_input: bool
    free: Tensor
    """(d, r): the directions in which the update may act on its side."""
    frozen: Tensor
    """(e, k): the directions that it must avoid on the other side; k = 0 where there is no such constraint."""
    energy: Tensor
    """(r, r): F^T E[x x^T] F of the kept inputs, F the free directions; (0, 0) where the weight decided."""

    @property
    def frozen_rank(self) -> int:
        """Directions that are kept on the update's own side."""
        return self.free.shape[0] - self.free.shape[1]


def short_side_vectors(weight: Tensor) -> Tensor:
    """Singular vectors (s, s) of `weight` (m, n) on its short side s, the smallest value first; fp64 on its device."""
    matrix = _tall(weight)
    return torch.linalg.eigh(matrix.T @ matrix)[1]


def split_by_weight(weight: Tensor, free_rank: int, vectors: Tensor | None = None) -> Bases:
    """Free the smallest `free_rank` singular directions of `weight` (m, n), on both sides; fp64 on its device.

    `vectors`: its `short_side_vectors`, where they are known.

    The short side comes from the eigenvectors of the Gram matrix (s, s), s = min(m, n), the long side from a QR of the
    weight times the frozen ones: orthonormal also where singular values vanish, which dividing by them would not be.
    """
    matrix = _tall(weight)
    if vectors is None:
        vectors = short_side_vectors(weight)
    descending = vectors.flip(-1)
    kept = matrix.shape[1] - free_rank
    frozen, _ = torch.linalg.qr(matrix @ descending[:, :kept])
    on_input = weight.shape[0] >= weight.shape[1]
    return Bases(on_input, _fp32(descending[:, kept:]), _fp32(frozen), _fp32(frozen.new_empty(0, 0)))


def input_vectors(moment: Tensor) -> Tensor:
    """Input directions (n, n), fp32 columns, from the least used of `moment` = E[x x^T] (n, n) on; fp64 on its device.

    Often many directions are not used at all. Which of them come first, and in which basis, would then be up to
    rounding, and AdamW's path with it: a small diagonal decides, far above fp64 rounding and far below use.
    """
    matrix = moment.to(torch.float64)
    ties = torch.linspace(0, 1, len(matrix), dtype=torch.float64, device=matrix.device)
    return _fp32(torch.linalg.eigh(matrix + torch.diag(UNUSED * matrix.diagonal().mean() * ties))[1])


def split_by_inputs(moment: Tensor, free_rank: int, vectors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The `free_rank` input directions (n, r) that carry least of `moment` = E[x x^T] (n, n), and F^T moment F (r, r).

    `vectors`: its `input_vectors`, where they are known.
    """
    matrix = moment.to(torch.float64)
    free = (input_vectors(moment) if vectors is None else vectors)[:, :free_rank].double()
    # eigh leaves the signs open: the largest coordinate of each direction is positive.
    largest = free.gather(0, free.abs().argmax(dim=0, keepdim=True))
    free = free * largest.sign()
    return _fp32(free), _fp32(free.T @ matrix @ free)


def input_share(energy: Tensor, moment: Tensor) -> Tensor:
    """Of the length of inputs with `moment` = E[x x^T] (n, n) what lies in the directions with this `energy` (r, r).

    sqrt(tr(energy) / tr(moment)), fp64; 0 where the inputs are.
    """
    whole = moment.diagonal().sum(dtype=torch.float64)
    return (energy.diagonal().sum(dtype=torch.float64) / whole.clamp(min=torch.finfo(torch.float64).tiny)).sqrt()


def leak(update: Tensor, bases: Bases) -> float:
    """How much of `update` (m, n) lies in frozen directions, as a share of its norm; 0 for a zero update.

    The larger of the two sides: the part of dW outside the free directions, and ||Q^T dW|| / ||dW|| with Q what is
    frozen on the other side.
    """
    oriented = update if bases.on_input else update.T
    norm = torch.linalg.norm(oriented)
    if norm == 0:
        return 0.0
    own_side = torch.linalg.norm(oriented - (oriented @ bases.free) @ bases.free.T)
    other_side = torch.linalg.norm(bases.frozen.T @ oriented)
    return float(torch.maximum(own_side, other_side) / norm)


def _tall(weight: Tensor) -> Tensor:
    """`weight` in fp64, with its short side second."""
    matrix = weight.detach().to(torch.float64)
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T


def _fp32(matrix: Tensor) -> Tensor:
    return matrix.float().contiguous()
