"""OsftLinear against the dense weight that it stands for."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from osftx.methods.osft.decomposition import Bases, leak, split_by_weight
from osftx.methods.osft.layer import FreeUpdate, OsftLinear, dense_update
from osftx.methods.osft.subspace_rule import stored_columns

# (shapes of the blocks of rows, free rank): tall, wide, square, and fused weights whose blocks are tall and wide.
CASES = {
    "tall": ([(20, 12)], 5),
    "wide": ([(12, 20)], 5),
    "square": ([(12, 12)], 5),
    "one free direction": ([(20, 12)], 1),
    "all free": ([(12, 20)], 12),
    "fused qkv": ([(24, 16), (8, 16), (8, 16)], 4),
    "fused gate_up": ([(30, 16), (30, 16)], 6),
}
CASE = pytest.mark.parametrize(("shapes", "rank"), CASES.values(), ids=CASES.keys())
BIAS = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


def make_layer(shapes: list[tuple[int, int]], rank: int, bias: bool, trained: bool) -> tuple[nn.Linear, OsftLinear]:
    """A frozen linear layer, and what takes the place of one like it, with random bases.

    `trained` gives it a random delta, which is put into its weight.
    """
    torch.manual_seed(0)
    linear = nn.Linear(shapes[0][1], sum(rows for rows, _ in shapes), bias=bias).requires_grad_(False)
    updates = [FreeUpdate(shape, rank, on_input=shape[0] >= shape[1]) for shape in shapes]
    for update in updates:
        update.basis.data = torch.linalg.qr(torch.randn(min(update.shape), rank))[0]
        if trained:
            update.delta.data.normal_()
    layer = OsftLinear(copy.deepcopy(linear), updates)
    layer.weight.data += dense(layer)
    return linear, layer


def dense(layer: OsftLinear) -> Tensor:
    """dW of the whole weight, block below block."""
    return torch.cat([dense_update(block.on_input, block.basis, block.delta) for block in layer.updates]).detach()


@CASE
@BIAS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_the_linear_layer_bit_for_bit_before_training(
    shapes: list[tuple[int, int]], rank: int, bias: bool, dtype: torch.dtype
) -> None:
    linear, layer = make_layer(shapes, rank, bias, trained=False)
    linear.to(dtype)
    layer.to(dtype)
    x = torch.randn(2, 3, shapes[0][1], dtype=dtype)
    assert torch.equal(layer(x), linear(x))
    assert layer(x).dtype == dtype


@CASE
@BIAS
def test_is_the_dense_update_after_training(shapes: list[tuple[int, int]], rank: int, bias: bool) -> None:
    linear, layer = make_layer(shapes, rank, bias, trained=True)
    x = torch.randn(2, 3, shapes[0][1])
    update = dense(layer)
    assert update.shape == linear.weight.shape
    assert (update != 0).all(), "every block has its place"
    torch.testing.assert_close(layer(x), linear(x) + x @ update.T, rtol=1e-5, atol=1e-4)


@CASE
def test_the_update_stays_in_the_span_of_the_basis(shapes: list[tuple[int, int]], rank: int) -> None:
    """On the short side, whatever delta is: outside the basis there is nothing of it."""
    _, layer = make_layer(shapes, rank, bias=False, trained=True)
    for block in layer.updates:
        update = dense_update(block.on_input, block.basis, block.delta)
        tall = update if block.on_input else update.T
        assert (tall - tall @ block.basis @ block.basis.T).norm() < 1e-5 * tall.norm()


@CASE
@BIAS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_is_that_of_the_dense_formula(
    shapes: list[tuple[int, int]], rank: int, bias: bool, dtype: torch.dtype
) -> None:
    """Autograd's through y = x (W0 + dW)^T + b; it goes to the input and to delta alone."""
    linear, layer = make_layer(shapes, rank, bias, trained=True)
    layer.to(dtype)
    assert {name for name, parameter in layer.named_parameters() if parameter.requires_grad} == {
        f"updates.{block}.delta" for block in range(len(shapes))
    }
    x = torch.randn(2, 3, shapes[0][1], dtype=dtype, requires_grad=True)
    of_output = torch.randn(2, 3, linear.out_features, dtype=dtype)
    layer(x).backward(of_output)
    for name, parameter in layer.named_parameters():
        assert (parameter.grad is not None) == name.endswith("delta"), name

    blocks = [
        (block.on_input, block.basis.double(), block.delta.detach().double().requires_grad_())
        for block in layer.updates
    ]
    y = x.detach().double().requires_grad_()
    weight = linear.weight.double() + torch.cat([dense_update(*block) for block in blocks])
    (y @ weight.T).backward(of_output.double())
    close = 1e-5 if dtype is torch.float32 else 2e-2

    def check(mine: Tensor | None, expected: Tensor | None) -> None:
        assert mine is not None
        assert expected is not None
        assert mine.dtype == dtype
        assert (mine.double() - expected).norm() < close * expected.norm()

    check(x.grad, y.grad)
    for block, (_, _, delta) in zip(layer.updates, blocks, strict=True):
        check(block.delta.grad, delta.grad)


def test_the_gradient_of_a_bias_that_is_trained() -> None:
    _, layer = make_layer([(20, 12)], 5, bias=True, trained=False)
    layer.bias.requires_grad_()
    of_output = torch.randn(2, 3, 20)
    layer(torch.randn(2, 3, 12)).backward(of_output)
    torch.testing.assert_close(layer.bias.grad, of_output.sum((0, 1)))


def test_no_gradient_for_an_input_that_needs_none() -> None:
    """The first layer of a model whose embedding is frozen."""
    _, layer = make_layer([(20, 12)], 5, bias=False, trained=False)
    x = torch.randn(3, 12)
    layer(x).sum().backward()
    assert x.grad is None
    assert layer.updates[0].delta.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputed_activations_give_the_same_gradient(dtype: torch.dtype) -> None:
    _, layer = make_layer([(24, 16), (8, 16), (8, 16)], 4, bias=True, trained=True)
    layer.to(dtype)
    x = torch.randn(5, 16, dtype=dtype, requires_grad=True)
    found = []
    for forward in (layer, lambda x: checkpoint(layer, x, use_reentrant=False)):
        layer.zero_grad()
        x.grad = None
        forward(x).square().sum().backward()
        found.append([x.grad, *(block.delta.grad for block in layer.updates)])
    for plain, recomputed in zip(*found, strict=True):
        assert torch.equal(plain, recomputed)


@CASE
def test_trains_long_side_times_free_rank_numbers(shapes: list[tuple[int, int]], rank: int) -> None:
    _, layer = make_layer(shapes, rank, bias=False, trained=False)
    assert [block.delta.numel() for block in layer.updates] == [max(shape) * rank for shape in shapes]
    assert [block.basis.shape for block in layer.updates] == [(min(shape), rank) for shape in shapes]


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (12, 12)])
def test_layer_and_decomposition_agree_on_the_sides(shape: tuple[int, int]) -> None:
    """With the decomposition's bases and a projected delta nothing leaks; a square weight has one answer too."""
    torch.manual_seed(0)
    bases = split_by_weight(torch.randn(shape), free_rank=5)
    update = FreeUpdate(shape, 5, bases.on_input)
    assert (update.basis.shape, update.delta.shape) == (bases.free.shape, (max(shape), 5))
    delta = torch.randn(max(shape), 5)
    delta -= bases.frozen @ (bases.frozen.T @ delta)
    assert leak(dense_update(update.on_input, bases.free, delta), bases) < 1e-6


@pytest.mark.parametrize("on_input", [True, False])
def test_columns_that_are_filled_up_change_nothing(on_input: bool) -> None:
    torch.manual_seed(0)
    free, x, of_output = torch.randn(12, 5), torch.randn(3, 12), torch.randn(3, 12)
    plain, filled = (FreeUpdate((12, 12), columns, on_input) for columns in (5, stored_columns(5, 2)))
    assert filled.delta.shape == (12, 8)
    plain.basis.data, filled.basis.data[:, :5] = free, free
    gradient = filled.gradient(x, of_output)
    torch.testing.assert_close(gradient[:, :5], plain.gradient(x, of_output))
    assert not gradient[:, 5:].any()


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (12, 12)])
def test_input_directions_whatever_the_shape(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    update = FreeUpdate(shape, 5, on_input=True)
    assert (update.basis.shape, update.delta.shape) == ((shape[1], 5), (shape[0], 5))
    update.basis.data = torch.linalg.qr(torch.randn(shape[1], 5))[0]
    update.delta.data.normal_()
    dense = dense_update(True, update.basis, update.delta).detach()
    assert leak(dense, Bases(True, update.basis.detach(), torch.empty(shape[0], 0), torch.zeros(5, 5))) < 1e-6
    x, of_output = torch.randn(3, shape[1]), torch.randn(3, shape[0])
    torch.testing.assert_close(update.gradient(x, of_output), of_output.T @ x @ update.basis, rtol=1e-5, atol=1e-5)
