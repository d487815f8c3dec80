"""OsftLinear against the dense weight that it stands for."""

import pytest
import torch
from torch import Tensor, nn

from osftx.osft.decomposition import Bases, leak, split_by_weight
from osftx.osft.layer import FreeUpdate, OsftLinear, dense_update

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
    """A frozen linear layer and what takes its place, with random bases; `trained` gives it a random delta."""
    torch.manual_seed(0)
    linear = nn.Linear(shapes[0][1], sum(rows for rows, _ in shapes), bias=bias).requires_grad_(False)
    updates = [FreeUpdate(shape, rank, on_input=shape[0] >= shape[1]) for shape in shapes]
    for update in updates:
        update.basis.data = torch.linalg.qr(torch.randn(min(update.shape), rank))[0]
        if trained:
            update.delta.data.normal_()
    return linear, OsftLinear(linear, updates)


def dense(layer: OsftLinear) -> Tensor:
    """dW of the whole weight, block below block."""
    return torch.cat([dense_update(block.on_input, block.basis, block.delta) for block in layer.updates])


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
def test_the_gradient_goes_to_delta_alone(shapes: list[tuple[int, int]], rank: int) -> None:
    linear, layer = make_layer(shapes, rank, bias=True, trained=True)
    assert {name for name, parameter in layer.named_parameters() if parameter.requires_grad} == {
        f"updates.{block}.delta" for block in range(len(shapes))
    }
    assert layer.weight is linear.weight
    assert layer.bias is linear.bias
    x = torch.randn(4, shapes[0][1], requires_grad=True)
    layer(x).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert (parameter.grad is not None) == name.endswith("delta"), name

    weight = (linear.weight + dense(layer)).detach().requires_grad_()
    y = x.detach().requires_grad_()
    (y @ weight.T + linear.bias).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-3)
    start = 0
    for block in layer.updates:
        of_block = weight.grad[start : start + block.shape[0]]
        start += block.shape[0]
        expected = of_block @ block.basis if block.on_input else of_block.T @ block.basis
        torch.testing.assert_close(block.delta.grad, expected, rtol=1e-4, atol=1e-3)


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


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (12, 12)])
def test_input_directions_whatever_the_shape(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    update = FreeUpdate(shape, 5, on_input=True)
    assert (update.basis.shape, update.delta.shape) == ((shape[1], 5), (shape[0], 5))
    update.basis.data = torch.linalg.qr(torch.randn(shape[1], 5))[0]
    update.delta.data.normal_()
    x = torch.randn(3, shape[1])
    dense = dense_update(True, update.basis, update.delta).detach()
    torch.testing.assert_close(update(x), x @ dense.T, rtol=1e-5, atol=1e-5)
    assert leak(dense, Bases(True, update.basis.detach(), torch.empty(shape[0], 0), torch.zeros(5, 5))) < 1e-6
