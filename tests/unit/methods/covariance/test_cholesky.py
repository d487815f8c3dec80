"""Roots of second moments: their size, and what they keep of moments with spectra of many kinds."""

import pytest
import torch
from torch import Tensor

from osftx.methods.covariance.cholesky import CholeskyFactor
from osftx.methods.covariance.index import moment_bytes
from osftx.methods.osft.decomposition import input_share, split_by_inputs

CPU = torch.device("cpu")
WIDTH = 96


def moment_of(energies: Tensor) -> Tensor:
    """A moment with these eigenvalues, in random directions."""
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(len(energies), len(energies), dtype=torch.float64, generator=generator)
    directions = torch.linalg.qr(square)[0]
    return directions * energies @ directions.T


def falling(power: float, used: int = WIDTH) -> Tensor:
    energies = torch.arange(1, WIDTH + 1, dtype=torch.float64) ** -power
    energies[used:] = 0
    return moment_of(energies)


def with_dead_features() -> Tensor:
    moment = falling(1.0)
    moment[:20], moment[:, :20] = 0, 0
    return moment


def with_outlier() -> Tensor:
    """A feature of ten thousand times the energy of all others, as language models have them."""
    moment = falling(1.0)
    moment[5, 5] += 1e4 * moment.trace()
    return moment


MOMENTS = {
    "flat": falling(0.5),
    "steep": falling(2.0),
    "a third used": falling(1.0, used=WIDTH // 3),
    "dead features": with_dead_features(),
    "outlier": with_outlier(),
    "one direction": falling(1.0, used=1),
    "nothing": torch.zeros(WIDTH, WIDTH, dtype=torch.float64),
}


def share(moment: Tensor, free: Tensor) -> float:
    return float(input_share(free.double().T @ moment @ free.double(), moment))


@pytest.mark.parametrize("ratio", [0.1, 0.3])
@pytest.mark.parametrize("name", MOMENTS)
def test_what_a_root_frees_carries_as_little_as_what_the_moment_frees(name: str, ratio: float) -> None:
    moment, rank = MOMENTS[name], int(WIDTH * ratio)
    free, _ = split_by_inputs(moment, rank)
    found, _ = split_by_inputs(CholeskyFactor.of(moment).moment(CPU), rank)
    assert share(moment, found) <= share(moment, free) + 2e-4


@pytest.mark.parametrize("name", MOMENTS)
def test_a_root_takes_little_more_than_a_byte_a_number_of_the_moment(name: str) -> None:
    root = CholeskyFactor.of(MOMENTS[name])
    assert root.rows.nbytes + root.scales.nbytes == moment_bytes(WIDTH) < 1.1 * WIDTH**2
    assert (root.moment(CPU) - MOMENTS[name]).norm() <= 1e-3 * MOMENTS[name].norm()


def test_a_root_of_a_root_loses_no_more() -> None:
    """Moments are added phase after phase."""
    moment = carried = MOMENTS["steep"]
    for _ in range(10):
        carried = CholeskyFactor.of(carried).moment(CPU)
    free, _ = split_by_inputs(moment, 30)
    found, _ = split_by_inputs(carried, 30)
    assert share(moment, found) == pytest.approx(share(moment, free), rel=1e-2)


def test_the_share_of_the_inputs_that_is_free() -> None:
    """Lengths 3 and 4 in two directions, of which the shorter one is free: 3 / sqrt(3^2 + 4^2)."""
    moment = torch.diag(torch.tensor([16.0, 9.0], dtype=torch.float64))
    free, energy = split_by_inputs(moment, 1)
    assert free.flatten().tolist() == pytest.approx([0.0, 1.0])
    assert float(input_share(energy, moment)) == pytest.approx(0.6)
