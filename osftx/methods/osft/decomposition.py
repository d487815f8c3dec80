"""Splits the directions of a matrix into frozen and trainable ones. Pure linear algebra, one matrix at a time.

Weight-based subspaces follow Nayak et al., "Sculpting Subspaces" (arXiv 2504.07097), section 3. In activation-based
subspaces the trainable directions are those that the inputs to be kept use least, as in Gradient Projection Memory
(Saha et al., arXiv 2103.09762), on the input side alone. The converged subspaces matter, the values at the cut do not.
A Gram matrix squares the condition number: in fp64 the subspaces at the usual cuts stay correct to 1e-6 for condition
numbers up to 1e8 (only a cut among the very smallest values suffers from about 1e7 on), whereas an fp32 Gram matrix
loses them from about 1e3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

UNUSED = 1e-6
"""Energy, relative to the mean of all input directions, below which all directions count as equally unused."""


@dataclass(frozen=True)
class Bases:
    """Orthonormal bases for the update of one matrix of shape (m, n), in fp32.

    With (d, e) = (n, m) if the update is on the input side, and (m, n) otherwise: `dW = delta @ free.T` on the input
    side, `free @ delta.T` on the output side, and `frozen.T @ delta = 0`.
    """

    on_input: bool
    free: Tensor
    """Trainable directions, in which the update may act on its own side, (d, r)."""
    frozen: Tensor
    """Frozen directions, which the update must avoid on the other side, (e, k); k = 0 if there is no such
    constraint."""
    energy: Tensor
    """F^T E[x x^T] F of the inputs that must be kept, with F the trainable directions, (r, r); (0, 0) in weight-based
    subspaces."""

    @property
    def frozen_rank(self) -> int:
        """Number of frozen directions on the update's own side."""
        return self.free.shape[0] - self.free.shape[1]


def short_side_vectors(weight: Tensor) -> Tensor:
    """Returns the singular vectors (s, s) of `weight` (m, n) on its short side s, in fp64 on its device.

    The vector of the smallest singular value comes first.
    """
    matrix = _tall(weight)
    return torch.linalg.eigh(matrix.T @ matrix)[1]


def split_by_weight(weight: Tensor, free_rank: int, vectors: Tensor | None = None) -> Bases:
    """Returns bases with the smallest `free_rank` singular directions of `weight` (m, n) trainable, on both sides.

    `vectors` are the weight's `short_side_vectors`, if they are known. The computation runs in fp64 on the weight's
    device.

    The short side comes from the eigenvectors of the Gram matrix (s, s), s = min(m, n). The long side comes from a QR
    decomposition of the weight times the frozen vectors, which is orthonormal even if singular values vanish; dividing
    by them would not be.
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
    """Returns the input directions as fp32 columns (n, n), from the one that `moment` = E[x x^T] (n, n) uses least.

    The computation runs in fp64 on the device of `moment`. Often many directions are not used at all. Their order and
    basis, and with them AdamW's path, would then depend on rounding. A small diagonal, far above fp64 rounding and far
    below actual use, decides instead.
    """
    matrix = moment.to(torch.float64)
    ties = torch.linspace(0, 1, len(matrix), dtype=torch.float64, device=matrix.device)
    return _fp32(torch.linalg.eigh(matrix + torch.diag(UNUSED * matrix.diagonal().mean() * ties))[1])


def split_by_inputs(moment: Tensor, free_rank: int, vectors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Returns the `free_rank` input directions F (n, r) that carry least of `moment`, and F^T moment F (r, r).

    `moment` is E[x x^T] (n, n); `vectors` are its `input_vectors`, if they are known.
    """
    matrix = moment.to(torch.float64)
    free = (input_vectors(moment) if vectors is None else vectors)[:, :free_rank].double()
    # eigh does not determine the signs: the largest coordinate of each direction is made positive.
    largest = free.gather(0, free.abs().argmax(dim=0, keepdim=True))
    free = free * largest.sign()
    return _fp32(free), _fp32(free.T @ matrix @ free)


def input_share(energy: Tensor, moment: Tensor) -> Tensor:
    """Returns the share of the length of inputs that lies in the directions with this `energy` (r, r).

    `moment` = E[x x^T] (n, n) is that of the inputs. The share is sqrt(tr(energy) / tr(moment)), fp64; 0 for inputs
    that are 0.
    """
    whole = moment.diagonal().sum(dtype=torch.float64)
    return (energy.diagonal().sum(dtype=torch.float64) / whole.clamp(min=torch.finfo(torch.float64).tiny)).sqrt()


def leak(update: Tensor, bases: Bases) -> float:
    """Returns the share of the norm of `update` (m, n) that lies in frozen directions; 0 for a zero update.

    It is the larger of the shares of both sides: the part of dW outside the trainable directions, and ||Q^T dW|| /
    ||dW|| with Q the frozen directions on the other side.
    """
    oriented = update if bases.on_input else update.T
    norm = torch.linalg.norm(oriented)
    if norm == 0:
        return 0.0
    own_side = torch.linalg.norm(oriented - (oriented @ bases.free) @ bases.free.T)
    other_side = torch.linalg.norm(bases.frozen.T @ oriented)
    return float(torch.maximum(own_side, other_side) / norm)


def _tall(weight: Tensor) -> Tensor:
    """Returns `weight` in fp64, with its short side second."""
    matrix = weight.detach().to(torch.float64)
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T


def _fp32(matrix: Tensor) -> Tensor:
    return matrix.float().contiguous()
