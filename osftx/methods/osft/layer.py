"""A linear layer that is trained only in the trainable subspace of its weight, in merged form.

The weight is the dense `W = W0 + dW`, with `dW = delta @ basis^T` or, if the update is on the output side, `basis @
delta^T`. The forward pass is the plain linear layer on W: what is trained is what is saved. The backward pass computes
the gradient of `delta` and never that of the whole weight. After each optimizer step `weight_update` puts the new dW
into W. `delta` starts at zero, so the model equals the base model bit for bit before the first step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from osftx.distributed.zero3 import gathered


class FreeUpdate(nn.Module):
    """The trainable update of one matrix of shape (m, n): `delta` (e, c) is trained, `basis` (d, c) is frozen.

    c is the number of `columns` that store the free rank (`subspace_rule.stored_columns`); the last columns of the
    basis may be zero. `own_side, other_side` are (d, e) = (n, m) with `on_input`, and (m, n) otherwise. The module is
    never called: ZeRO-3 gathers the parameters of modules that run, but no pass needs `delta`, and only the backward
    pass needs `basis`.
    """

    def __init__(self, shape: tuple[int, int], columns: int, on_input: bool):
        super().__init__()
        self.shape, self.columns, self.on_input = shape, columns, on_input
        self.own_side, self.other_side = reversed(shape) if on_input else shape
        self.basis = nn.Parameter(torch.zeros(self.own_side, columns), requires_grad=False)
        self.delta = nn.Parameter(torch.zeros(self.other_side, columns))
        # Inside a pass ZeRO-3 gathers a parameter that is read as an attribute, but not one that is in a tuple.
        self._parameters_apart = (self.basis, self.delta)

    def leaf(self) -> nn.Parameter:
        """Returns `delta` for autograd, which reads only its shape; ZeRO-3 removes that while it is partitioned."""
        _, delta = self._parameters_apart
        if delta.dim() != 2:
            delta.data = delta.data.new_zeros(1).expand(self.other_side, self.columns)
        return delta

    def gradient(self, x: Tensor, of_output: Tensor) -> Tensor:
        """Returns the gradient of `delta` (e, c) from the input `x` (tokens, n) and the output's gradient (tokens, m).

        Collective.
        """
        return of_output.T @ self.in_free(x) if self.on_input else x.T @ self.in_free(of_output)

    def in_free(self, rows: Tensor) -> Tensor:
        """Returns the coordinates (tokens, c) of `rows` in the trainable directions. Collective.

        `rows` are inputs (tokens, n) with `on_input`, and outputs (tokens, m) otherwise.
        """
        basis, _ = self._parameters_apart
        with gathered(basis):
            return rows @ basis


class OsftLinear(nn.Module):
    """Replaces an nn.Linear; keeps its weight and bias, and trains one update for each block of its rows."""

    def __init__(self, linear: nn.Linear, updates: list[FreeUpdate]):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.updates = nn.ModuleList(updates)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the output (..., m) of the layer for `x` (..., n)."""
        updates: list[Any] = list(self.updates)
        output: Tensor = _Linear.apply(x, self.weight, self.bias, updates, *(update.leaf() for update in updates))
        return output


class _Linear(torch.autograd.Function):
    """Computes `x W^T + b`.

    It has gradients for x, for b if it is trained, and for the `delta` of each update; none for W.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, updates: Sequence[FreeUpdate], *_: Tensor
    ) -> Tensor:
        # The parameter itself is saved, which ZeRO-3 gathers again for the backward pass; a view would keep it whole
        # until then.
        ctx.save_for_backward(x, weight)
        ctx.updates = updates
        # DeepSpeed replaces torch's own linear layer by an approximation, which rounds twice if there is a bias. The
        # saved model will be run by torch's own layer.
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
    """Returns dW (m, n) from `basis` (d, r) and `delta` (e, r)."""
    return delta @ basis.T if on_input else basis @ delta.T
