"""Stores a second moment compactly as its Cholesky factor in half precision: n^2 bytes for E[x x^T] (n, n).

A factor needs half the digits of the moment. Rounding its numbers in their eleventh binary digit hides the share of the
inputs' length in the trainable directions only below about 1e-4. A moment in bf16 hides it below about 4e-3; the
eigenvectors that hold all but 1e-6 of the energy hide it below 1e-3, and are larger (benchmarks/kept_inputs.py).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-9
"""Energy that is added to each feature, relative to the feature's own: above the rounding of fp64, below that of the
factor."""


@dataclass(frozen=True)
class CholeskyFactor:
    """The lower triangular matrix L with L L^T = E[x x^T] (n, n)."""

    rows: Tensor
    """Lower triangle row by row, each row scaled to length 1, (n (n + 1) / 2,) fp16."""
    scales: Tensor
    """Length of each row of L, sqrt(E[x_i^2]), (n,) fp32."""

    @classmethod
    def of(cls, moment: Tensor) -> "CholeskyFactor":
        """Returns the factor of `moment` (n, n) fp64, computed on the device of `moment` and held in host memory."""
        scales = moment.diagonal().sqrt()
        lengths = torch.where(scales > 0, scales, 1.0)  # 1.0 for a feature that is always zero
        correlation = moment / lengths / lengths[:, None]
        correlation.diagonal().add_(RIDGE)
        lower = torch.linalg.cholesky(correlation).half()
        return cls(lower[_lower_triangle(len(lower), lower.device)].cpu(), scales.float().cpu())

    def moment(self, device: torch.device) -> Tensor:
        """Returns E[x x^T] (n, n), fp64 on `device`."""
        n = len(self.scales)
        factor = torch.zeros(n, n, dtype=torch.float64, device=device)
        factor[_lower_triangle(n, device)] = self.rows.to(device, torch.float64)
        factor *= self.scales.to(device, torch.float64)[:, None]
        return factor @ factor.T


def _lower_triangle(n: int, device: torch.device) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool, device=device).tril()
