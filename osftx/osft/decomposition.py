"""Split a weight's singular directions into frozen and free. Pure linear algebra, one matrix at a time.

Source: Nayak et al., "Sculpting Subspaces" (arXiv 2504.07097), section 3. The converged subspaces matter, the
singular values at the cut do not. The Gram matrix squares the condition number: in fp64 the subspaces at the usual
cuts stay right to 1e-6 for condition numbers up to 1e8 (only a cut among the very smallest values suffers from about
1e7 on), where an fp32 Gram matrix loses them from about 1e3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Decomposition:
    """Orthonormal bases of one matrix of shape (m, n), with s = min(m, n), L = max(m, n), k frozen and r = s - k free.

    `free_short` (s, r) spans the complement of the frozen directions on the short side, `frozen_long` (L, k) the
    frozen directions on the long side. The update `dW = delta @ free_short.T` (m >= n; transposed otherwise) with
    `frozen_long.T @ delta = 0` is orthogonal to what is frozen on both sides.
    """

    free_short: Tensor
    frozen_long: Tensor


def decompose(weight: Tensor, frozen: int) -> Decomposition:
    """Bases in fp32 for `frozen` = k kept directions of `weight` (m, n), computed in fp64 on the weight's device.

    The short side comes from the eigenvectors of the Gram matrix (s, s), the long side from a QR of the weight times
    the frozen ones: orthonormal also where singular values vanish, which dividing by them would not be.
    """
    matrix = weight.detach().to(torch.float64)
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    _, vectors = torch.linalg.eigh(matrix.T @ matrix)
    vectors = vectors.flip(-1)  # eigh sorts ascending
    frozen_short, free_short = vectors[:, :frozen], vectors[:, frozen:]
    frozen_long, _ = torch.linalg.qr(matrix @ frozen_short)
    return Decomposition(free_short.float().contiguous(), frozen_long.float().contiguous())


def leak(update: Tensor, bases: Decomposition) -> float:
    """How much of `update` (m, n) lies in frozen directions, as a share of its norm; 0 for a zero update.

    The larger of the two sides: ||Q^T dW|| / ||dW|| with Q the frozen long-side basis, and the part of dW outside
    the free short-side basis.
    """
    tall = update if update.shape[0] >= update.shape[1] else update.T
    norm = torch.linalg.norm(tall)
    if norm == 0:
        return 0.0
    long_side = torch.linalg.norm(bases.frozen_long.T @ tall)
    short_side = torch.linalg.norm(tall - (tall @ bases.free_short) @ bases.free_short.T)
    return float(torch.maximum(long_side, short_side) / norm)
