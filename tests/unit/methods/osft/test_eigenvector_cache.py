"""Decompositions that are remembered by the content of the matrix."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from osftx.methods.osft.decomposition import short_side_vectors, split_by_weight
from osftx.methods.osft.eigenvector_cache import EigenvectorCache


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(12, 7, generator=torch.Generator().manual_seed(0))


def never() -> Tensor:
    pytest.fail("computed again")


def test_a_matrix_is_decomposed_once(tmp_path: Path, weight: Tensor) -> None:
    cache = EigenvectorCache(tmp_path / "new" / "cache")
    first = cache.of("gram", weight, lambda: short_side_vectors(weight))
    again = EigenvectorCache(tmp_path / "new" / "cache").of("gram", weight.clone(), never)
    assert torch.equal(first, again)
    assert again.dtype == torch.float64
    for free_rank in (1, 3):  # whatever the ratio, the bases are those of a decomposition of its own
        known, own = split_by_weight(weight, free_rank, again), split_by_weight(weight, free_rank)
        assert torch.equal(known.free, own.free)
        assert torch.equal(known.frozen, own.frozen)


@pytest.mark.parametrize("change", ["content", "shape", "precision", "kind"])
def test_another_matrix_is_another_entry(tmp_path: Path, weight: Tensor, change: str) -> None:
    cache = EigenvectorCache(tmp_path)
    cache.of("gram", weight, lambda: torch.zeros(1))
    changed = {"content": weight + (weight == weight.max()), "shape": weight.T, "precision": weight.double()}
    kind = "moment" if change == "kind" else "gram"
    assert cache.of(kind, changed.get(change, weight), lambda: torch.ones(1)).item() == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "empty"])
def test_damage_is_found_and_mended(tmp_path: Path, weight: Tensor, damage: str) -> None:
    cache = EigenvectorCache(tmp_path)
    right = cache.of("gram", weight, lambda: short_side_vectors(weight))
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes({"a flipped bit": content, "cut short": content[:-8], "empty": b""}[damage])
    assert torch.equal(cache.of("gram", weight, lambda: short_side_vectors(weight)), right)
    assert torch.equal(cache.of("gram", weight, never), right)


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path: Path, weight: Tensor) -> None:
    (tmp_path / "file").write_text("")
    cache = EigenvectorCache(tmp_path / "file" / "cache")
    assert torch.equal(cache.of("gram", weight, lambda: torch.ones(2)), torch.ones(2))
    assert torch.equal(EigenvectorCache(None).of("gram", weight, lambda: torch.ones(2)), torch.ones(2))
