"""What the export measures on one weight, with an update that is already whole."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from osftx.osft.decomposition import split_by_weight
from osftx.osft.layer import FreeUpdate, dense_update
from osftx.training import export

FROZEN = 6


@pytest.fixture(autouse=True)
def whole_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """ZeRO-3 gathers a parameter; here it is whole."""
    monkeypatch.setattr(export, "safe_get_full_fp32_param", lambda parameter: parameter.detach())


def block(weight: Tensor, rows: slice) -> Any:
    """A subspace of some rows of `weight`, trained a little inside its free directions."""
    bases = split_by_weight(weight[rows], min(weight[rows].shape) - FROZEN)
    update = FreeUpdate(tuple(weight[rows].shape), bases.free.shape[1], bases.on_input)
    delta = torch.randn_like(update.delta) * 1e-2
    update.delta.data = delta - bases.frozen @ (bases.frozen.T @ delta)
    return SimpleNamespace(name="block", rows=rows, update=update, bases=lambda: bases, output_power=None)


@pytest.mark.parametrize("before_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("save_dtype", [torch.float32, torch.bfloat16])
def test_the_saved_weight_and_what_it_kept(before_dtype: torch.dtype, save_dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(30, 12).to(before_dtype)
    rows = [slice(0, 20), slice(20, 30)]
    blocks = [block(weight.float(), part) for part in rows]
    updates = [dense_update(space.update.on_input, space.bases().free, space.update.delta.data) for space in blocks]
    kept: list[dict[str, Any]] = []
    saved = export._merge(weight.clone(), blocks, save_dtype, kept)
    assert saved is not None
    assert torch.equal(saved, (weight.float() + torch.cat(updates)).to(save_dtype))
    for part, space, update, measures in zip(rows, blocks, updates, kept, strict=True):
        old = weight[part].float()
        assert measures["relative_change"] == pytest.approx(float(update.norm() / old.norm()))
        assert measures["leak_fp32"] < 1e-5
        assert measures["leak_saved"] == export.leak(saved[part].float() - old, space.bases()) > 0


def test_a_weight_of_zeros_has_no_relative_change() -> None:
    weight = torch.zeros(20, 12)
    kept: list[dict[str, Any]] = []
    export._merge(weight, [block(weight, slice(0, 20))], torch.float32, kept)
    assert kept[0]["relative_change"] is None
