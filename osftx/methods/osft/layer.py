"""A linear layer that is trained in the free subspace of its weight alone (merged form).

The weight is the dense `W = W0 + dW`, with `dW = delta @ basis^T` or, where the update is free on the output side,
`basis @ delta^T`. The forward pass is the plain linear layer on W: what is trained is what is saved. The backward pass
computes the gradient of `delta` and never that of the whole weight. After each optimizer step `merging.py` puts the new
dW into W; `delta` starts at zero, so the model is bit for bit the base model before the first step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from osftx.distributed.zero3 import gathered


class FreeUpdate(nn.Module):
    """The trainable update of one matrix of shape (m, n): `delta` (e, c) trained, `basis` (d, c) frozen.

    c are the `columns` that hold the free rank (`targets.stored_columns`), where the last of the basis may be zeros;
    `own_side, other_side` are (d, e) = (n, m) with `on_input`, (m, n) otherwise. Never called:
    ZeRO-3 gathers what the modules that run hold, but no pass needs `delta`, and only the backward pass `basis`.
    """

    def __init__(self, shape: tuple[int, int], columns: int, on_input: bool):
        super().__init__()
        self.shape, self.columns, self.on_input = shape, columns, on_input
        self.own_side, self.other_side = reversed(shape) if on_input else shape
        self.basis = nn.Parameter(torch.zeros(self.own_side, columns), requires_grad=False)
        self.delta = nn.Parameter(torch.zeros(self.other_side, columns))
        # Inside a pass ZeRO-3 gathers a parameter that is read as an attribute; not what is in a tuple.
        self._parameters_apart = (self.basis, self.delta)

    def leaf(self) -> nn.Parameter:
        """`delta` for autograd, which asks it for nothing but its shape; ZeRO-3 leaves it none while it is cut."""
        _, delta = self._parameters_apart
        if delta.dim() != 2:
            delta.data = delta.data.new_zeros(1).expand(self.other_side, self.columns)
        return delta

    def gradient(self, x: Tensor, of_output: Tensor) -> Tensor:
        """Of `delta` (e, c): from the input `x` (tokens, n) and the gradient of the output (tokens, m). Collective."""
        return of_output.T @ self.in_free(x) if self.on_input else x.T @ self.in_free(of_output)

    def in_free(self, rows: Tensor) -> Tensor:
        """Coordinates (tokens, c) in the free directions, of inputs (tokens, n) with `on_input`, otherwise of outputs
        (tokens, m). Collective."""
        basis, _ = self._parameters_apart
        with gathered(basis):
            return rows @ basis


class OsftLinear(nn.Module):
    """Stands in for an nn.Linear; keeps its weight and bias, and trains one update for each block of its rows."""

    def __init__(self, linear: nn.Linear, updates: list[FreeUpdate]):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.updates = nn.ModuleList(updates)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (..., n) -> (..., m)."""
        updates: list[Any] = list(self.updates)
        output: Tensor = _Linear.apply(x, self.weight, self.bias, updates, *(update.leaf() for update in updates))
        return output


class _Linear(torch.autograd.Function):
    """`x W^T + b`, with a gradient for x, for b where it is trained, and for the `delta` of each update; none for W."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, updates: Sequence[FreeUpdate], *_: Tensor
    ) -> Tensor:
        # The parameter itself, which ZeRO-3 gathers again for the backward pass; a view would keep it whole until then.
        ctx.save_for_backward(x, weight)
        ctx.updates = updates
        # DeepSpeed puts an approximation of torch's own linear layer in its place, which rounds twice where there is a
        # bias; the saved model will be run by torch's own.
        return torch.ops.aten.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        of_x = grad @ weight if ctx.needs_input_grad[0] else None
        inputs, rows = x.flatten(0, -2), grad.flatten(0, -2)
        of_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        blocks = rows.split([update.shape[0] for update in ctx.updates], dim=1)
        of_deltas = [update.gradient(inputs, block) for update, block in zip(ctx.updates, blocks, strict=True)]
        return of_x, None, of_bias, None, *of_deltas


def dense_update(on_input: bool, basis: Tensor, delta: Tensor) -> Tensor:
    """dW (m, n) from `basis` (d, r) and `delta` (e, r)."""
    return delta @ basis.T if on_input else basis @ delta.T
