"""The bases against torch's own fp64 SVD, and the leak against updates whose place is known."""

import pytest
import torch
from torch import Tensor

from osftx.methods.osft.decomposition import Bases, leak, split_by_inputs, split_by_weight

SHAPES = [(40, 24), (24, 40), (24, 24)]


def weight_of(shape: tuple[int, int], spectrum: Tensor, seed: int = 0) -> Tensor:
    """An fp32 weight with the given singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(side, len(spectrum), dtype=torch.float64, generator=generator))[0] for side in shape
    )
    return (left * spectrum @ right.T).float()


def full_rank(shape: tuple[int, int]) -> Tensor:
    return weight_of(shape, torch.linspace(2.0, 0.1, min(shape), dtype=torch.float64))


def frozen_directions(weight: Tensor, frozen: int) -> tuple[Tensor, Tensor]:
    """The top singular vectors (long side, short side) by an fp64 SVD."""
    tall = weight.double() if weight.shape[0] >= weight.shape[1] else weight.double().T
    u, _, vh = torch.linalg.svd(tall, full_matrices=False)
    return u[:, :frozen], vh[:frozen].T


def assert_orthonormal(basis: Tensor) -> None:
    gram = basis.double().T @ basis.double()
    assert (gram - torch.eye(len(gram), dtype=torch.float64)).norm().item() < 1e-6


def projector(basis: Tensor) -> Tensor:
    """Onto the span of orthonormal columns: equal for two bases exactly when their spans are."""
    return basis.double() @ basis.double().T


def split(weight: Tensor, frozen: int) -> Bases:
    return split_by_weight(weight, min(weight.shape) - frozen)


def assert_splits_like_the_svd(weight: Tensor, frozen: int) -> None:
    bases = split(weight, frozen)
    short, long = sorted(weight.shape)
    assert bases.free.shape == (short, short - frozen)
    assert bases.frozen.shape == (long, frozen)
    assert bases.free.dtype == bases.frozen.dtype == torch.float32
    assert_orthonormal(bases.free)
    assert_orthonormal(bases.frozen)
    true_long, true_short = frozen_directions(weight, frozen)
    free = torch.eye(short, dtype=torch.float64) - projector(true_short)
    assert (projector(bases.free) - free).norm().item() < 1e-5
    assert (projector(bases.frozen) - projector(true_long)).norm().item() < 1e-5


@pytest.mark.parametrize("frozen", [0, 1, 7, 16, 23, 24])
@pytest.mark.parametrize("shape", SHAPES)
def test_splits_like_the_svd(shape: tuple[int, int], frozen: int) -> None:
    assert_splits_like_the_svd(full_rank(shape), frozen)


@pytest.mark.parametrize("frozen", [1, 12, 16, 21])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_ill_conditioned_weight(shape: tuple[int, int], frozen: int) -> None:
    """Condition 1e6: a Gram matrix in fp32 would have lost every direction below 1e-3 of the largest."""
    spectrum = torch.logspace(0, -6, min(shape), dtype=torch.float64)
    assert_splits_like_the_svd(weight_of(shape, spectrum), frozen)


@pytest.mark.parametrize("frozen", [4, 6])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_weight_of_low_rank(shape: tuple[int, int], frozen: int) -> None:
    assert_splits_like_the_svd(weight_of(shape, torch.linspace(2.0, 1.0, 6, dtype=torch.float64)), frozen)


@pytest.mark.parametrize("weight", [weight_of((40, 24), torch.ones(6, dtype=torch.float64)), torch.zeros(24, 40)])
def test_directions_beyond_the_rank_are_arbitrary_but_orthonormal(weight: Tensor) -> None:
    """No division by a singular value that vanishes: `W V / sigma` would give NaN or noise here."""
    bases = split(weight, 9)
    assert_orthonormal(bases.free)
    assert_orthonormal(bases.frozen)
    rank = int(torch.linalg.matrix_rank(weight))
    true_long, true_short = frozen_directions(weight, rank)
    assert (bases.free.double().T @ true_short).norm().item() < 1e-5
    assert (projector(bases.frozen) @ true_long - true_long).norm().item() < 1e-5


def test_the_weight_may_be_in_bfloat16() -> None:
    weight = full_rank((40, 24)).bfloat16()
    assert_splits_like_the_svd(weight, 10)


def update_in(side_basis: Tensor, other_basis: Tensor, shape: tuple[int, int]) -> Tensor:
    """A random fp32 update whose long side lies in the span of one basis, its short side in that of the other."""
    core = torch.randn(side_basis.shape[1], other_basis.shape[1], generator=torch.Generator().manual_seed(1))
    tall = side_basis.double() @ core.double() @ other_basis.double().T
    return (tall if shape[0] >= shape[1] else tall.T).float()


def sides(weight: Tensor, frozen: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Complete bases by an fp64 SVD: frozen long, free long, frozen short, free short."""
    tall = weight.double() if weight.shape[0] >= weight.shape[1] else weight.double().T
    u, _, vh = torch.linalg.svd(tall, full_matrices=True)
    return u[:, :frozen], u[:, frozen:], vh[:frozen].T, vh[frozen:].T


@pytest.mark.parametrize("shape", SHAPES)
def test_leak_of_updates_whose_place_is_known(shape: tuple[int, int]) -> None:
    weight = full_rank(shape)
    bases = split(weight, 10)
    frozen_long, free_long, frozen_short, free_short = sides(weight, 10)
    assert leak(update_in(free_long, free_short, shape), bases) < 1e-6
    assert leak(update_in(frozen_long, frozen_short, shape), bases) == pytest.approx(1.0, abs=1e-6)
    # One side alone is enough to be seen.
    assert leak(update_in(frozen_long, free_short, shape), bases) == pytest.approx(1.0, abs=1e-6)
    assert leak(update_in(free_long, frozen_short, shape), bases) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_leak_is_a_share_of_the_norm(shape: tuple[int, int]) -> None:
    """3 parts inside, 4 parts outside: 4 / sqrt(3^2 + 4^2) = 0.8, at any size of the update."""
    weight = full_rank(shape)
    frozen_long, free_long, frozen_short, free_short = sides(weight, 10)
    inside, outside = update_in(free_long, free_short, shape), update_in(frozen_long, frozen_short, shape)
    update = 3 * inside / inside.norm() + 4 * outside / outside.norm()
    bases = split(weight, 10)
    assert leak(update, bases) == pytest.approx(0.8, abs=1e-5)
    assert leak(1e-9 * update, bases) == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_zero_update_leaks_nothing(shape: tuple[int, int]) -> None:
    assert leak(torch.zeros(shape), split(full_rank(shape), 10)) == 0.0


def test_with_nothing_frozen_nothing_leaks_and_with_everything_frozen_all_does() -> None:
    weight = full_rank((40, 24))
    update = full_rank((40, 24)) + 1.0
    assert leak(update, split(weight, 0)) < 1e-6
    assert leak(update, split(weight, 24)) == pytest.approx(1.0, abs=1e-6)


def inputs_in(used: Tensor, count: int = 200) -> Tensor:
    """Inputs (count, n) in the span of `used` (n, u), the later directions weaker: 1, 1/2, 1/4, ..."""
    generator = torch.Generator().manual_seed(2)
    strength = 0.5 ** torch.arange(used.shape[1], dtype=torch.float64)
    return torch.randn(count, used.shape[1], dtype=torch.float64, generator=generator) * strength @ used.T


@pytest.mark.parametrize("free_rank", [3, 18, 20])
def test_frees_the_input_directions_that_are_used_least(free_rank: int) -> None:
    """6 of 24 directions are used; the free ones come from the other 18 while there are enough of them."""
    generator = torch.Generator().manual_seed(3)
    directions = torch.linalg.qr(torch.randn(24, 24, dtype=torch.float64, generator=generator))[0]
    x = inputs_in(directions[:, :6])
    free, energy = split_by_inputs(x.T @ x / len(x), free_rank)
    assert_orthonormal(free)
    assert (free.shape, energy.shape) == ((24, free_rank), (free_rank, free_rank))
    along = x @ free.double()
    torch.testing.assert_close(energy.double(), along.T @ along / len(x), rtol=1e-4, atol=1e-9)
    energy = energy.diagonal()
    assert (energy[:18] < 1e-9).all()
    if free_rank == 20:  # the two weakest of the used ones are next
        assert 1e-6 < energy[18] < energy[19]
        assert (free.double().T @ directions[:, :4]).norm() < 0.2


def test_leak_of_an_update_of_input_directions() -> None:
    """On the input side alone: any output is allowed."""
    directions = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(4)))[0]
    free, frozen = directions[:, :8], directions[:, 8:]
    bases = Bases(True, free, torch.empty(10, 0), torch.zeros(8, 8))
    inside = torch.randn(10, 8, generator=torch.Generator().manual_seed(5)) @ free.T
    outside = torch.randn(10, 16, generator=torch.Generator().manual_seed(6)) @ frozen.T
    assert leak(inside, bases) < 1e-6
    assert leak(outside, bases) == pytest.approx(1.0, abs=1e-6)
    assert leak(3 * inside / inside.norm() + 4 * outside / outside.norm(), bases) == pytest.approx(0.8, abs=1e-5)
    assert bases.frozen_rank == 16


def test_which_unused_directions_are_freed_does_not_hang_on_rounding() -> None:
    """4 of 18 unused directions, whatever noise there is at the level of fp32 inputs."""
    generator = torch.Generator().manual_seed(7)
    directions = torch.linalg.qr(torch.randn(24, 24, dtype=torch.float64, generator=generator))[0]
    x = inputs_in(directions[:, :6])
    noisy = x + 1e-7 * x.norm(dim=1, keepdim=True) * torch.randn(x.shape, dtype=x.dtype, generator=generator)
    free, _ = split_by_inputs(x.T @ x / len(x), 4)
    other, _ = split_by_inputs(noisy.T @ noisy / len(x), 4)
    torch.testing.assert_close(free, other, rtol=0, atol=1e-3)
