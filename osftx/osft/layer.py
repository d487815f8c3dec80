"""A linear layer whose weight is frozen except in its free subspace (residual form).

`y = x W0^T + x dW^T`, with `dW = delta @ basis^T` or, where the update is free on the output side, `basis @ delta^T`.
`delta` starts at zero, so the model is bit for bit the base model before the first step.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FreeUpdate(nn.Module):
    """The trainable update of one matrix of shape (m, n): `delta` (e, r) trained, `basis` (d, r) frozen.

    r is the free rank; `own_side, other_side` are (d, e) = (n, m) with `on_input`, (m, n) otherwise.
    """

    def __init__(self, shape: tuple[int, int], rank: int, on_input: bool):
        super().__init__()
        self.shape, self.rank, self.on_input = shape, rank, on_input
        self.own_side, self.other_side = reversed(shape) if on_input else shape
        self.basis = nn.Parameter(torch.zeros(self.own_side, rank), requires_grad=False)
        self.delta = nn.Parameter(torch.zeros(self.other_side, rank))

    def forward(self, x: Tensor) -> Tensor:
        """`x` (..., n) -> (..., m). Never transposes a parameter: a saved view would pin a gathered ZeRO-3 weight."""
        if self.on_input:
            return functional.linear(x @ self.basis, self.delta)
        return functional.linear(x @ self.delta, self.basis)


class OsftLinear(nn.Module):
    """Stands in for an nn.Linear; keeps its weight and bias, frozen, and adds one update for each block of rows."""

    def __init__(self, linear: nn.Linear, updates: list[FreeUpdate]):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.updates = nn.ModuleList(updates)

    def forward(self, x: Tensor) -> Tensor:
        update = torch.cat([block(x) for block in self.updates], dim=-1)
        return functional.linear(x, self.weight, self.bias) + update


def dense_update(on_input: bool, basis: Tensor, delta: Tensor) -> Tensor:
    """dW (m, n) from `basis` (d, r) and `delta` (e, r)."""
    return delta @ basis.T if on_input else basis @ delta.T
