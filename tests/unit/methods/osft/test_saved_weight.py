"""The weight that is saved for a target and what is measured of it, with an update that is already whole."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from osftx.methods.osft import saved_weight as module
from osftx.methods.osft.decomposition import leak, split_by_weight
from osftx.methods.osft.layer import FreeUpdate, dense_update
from osftx.methods.osft.saved_weight import saved_weight
from osftx.methods.osft.subspace import UseOfKept

FROZEN = 6


@pytest.fixture(autouse=True)
def whole_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """ZeRO-3 gathers parameters; here they are whole, in one process."""
    monkeypatch.setattr(module, "full_master", lambda parameter: parameter.detach())
    monkeypatch.setattr(dist, "get_rank", lambda: 0)


def block(weight: Tensor, rows: slice) -> Any:
    """A subspace of some rows of `weight`, trained a little inside its free directions."""
    bases = split_by_weight(weight[rows].float(), min(weight[rows].shape) - FROZEN)
    update = FreeUpdate(tuple(weight[rows].shape), bases.free.shape[1], bases.on_input)
    delta = torch.randn_like(update.delta) * 1e-2
    update.delta.data = delta - bases.frozen @ (bases.frozen.T @ delta)
    return SimpleNamespace(name="block", rows=rows, update=update, bases=lambda: bases, kept=None)


def train(blocks: list[Any], weight: Tensor, train_dtype: torch.dtype) -> Tensor:
    """Give `blocks` their weight as training leaves it, and return W0 + dW in fp32."""
    updates = [dense_update(space.update.on_input, space.bases().free, space.update.delta.data) for space in blocks]
    merged = weight.to(train_dtype).float() + torch.cat(updates)
    for space in blocks:
        space.weight = nn.Parameter(merged.to(train_dtype), requires_grad=False)
    return weight.float() + torch.cat(updates)


DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("before_dtype", DTYPES)
@pytest.mark.parametrize("train_dtype", DTYPES)
@pytest.mark.parametrize("save_dtype", DTYPES)
def test_the_saved_weight_and_what_it_kept(
    before_dtype: torch.dtype, train_dtype: torch.dtype, save_dtype: torch.dtype
) -> None:
    """As trained; where the file is finer than the training, the exact sum."""
    torch.manual_seed(0)
    weight = torch.randn(30, 12).to(before_dtype)
    rows = [slice(0, 20), slice(20, 30)]
    blocks = [block(weight, part) for part in rows]
    updates = [dense_update(space.update.on_input, space.bases().free, space.update.delta.data) for space in blocks]
    exact = train(blocks, weight, train_dtype)
    saved, kept = saved_weight(weight.clone(), blocks, save_dtype)
    assert saved is not None
    finer = save_dtype is torch.float32 and train_dtype is torch.bfloat16
    assert torch.equal(saved, exact if finer else blocks[0].weight.to(save_dtype))
    for part, space, update, measures in zip(rows, blocks, updates, kept, strict=True):
        old = weight[part].float()
        assert measures["relative_change"] == pytest.approx(float(update.norm() / old.norm()))
        assert measures["update_norm"] == pytest.approx(float(update.norm()))
        change = saved[part].float() - old
        assert measures["update_kept"] == pytest.approx(float((change * update).sum() / update.square().sum()))
        assert measures["leak_fp32"] < 1e-5
        assert measures["leak_saved"] == leak(saved[part].float() - old, space.bases()) > 0


def test_a_weight_of_zeros_has_no_relative_change() -> None:
    weight = torch.zeros(20, 12)
    blocks = [block(weight, slice(0, 20))]
    train(blocks, weight, torch.float32)
    _, kept = saved_weight(weight, blocks, torch.float32)
    assert kept[0]["relative_change"] is None


def test_a_small_update_is_rounded_away_and_that_is_told() -> None:
    torch.manual_seed(0)
    weight = torch.randn(20, 12).bfloat16()
    (space,) = blocks = [block(weight, slice(0, 20))]
    space.update.delta.data *= 1e-3
    train(blocks, weight, torch.bfloat16)
    figures: dict[torch.dtype, float] = {}
    for save_dtype in DTYPES:
        _, kept = saved_weight(weight.clone(), blocks, save_dtype)
        figures[save_dtype] = kept[0]["update_kept"]
    assert figures[torch.bfloat16] < 0.9
    assert figures[torch.float32] == pytest.approx(1.0, abs=1e-2)


def test_no_update_is_kept_to_no_share() -> None:
    weight = torch.randn(20, 12)
    (space,) = blocks = [block(weight, slice(0, 20))]
    space.update.delta.data.zero_()
    train(blocks, weight, torch.float32)
    _, kept = saved_weight(weight, blocks, torch.float32)
    assert kept[0]["update_kept"] is None


def test_what_the_kept_inputs_make_of_an_update_is_told() -> None:
    """sqrt(E ||dW x||^2 / E ||W0 x||^2), worked out on the inputs themselves; None where they have no output."""
    torch.manual_seed(0)
    weight, inputs = torch.randn(20, 12), torch.randn(50, 12)
    (space,) = blocks = [block(weight, slice(0, 20))]
    bases = space.bases()
    assert bases.on_input
    train(blocks, weight, torch.float32)
    _, (none,) = saved_weight(weight, blocks, torch.float32)
    assert (none["free_input_share"], none["kept_output_change"]) == (None, None)
    space.energy = bases.free.T @ (inputs.T @ inputs) @ bases.free
    space.kept = UseOfKept(float((inputs @ weight.T).square().sum()), 0.25)
    _, (record,) = saved_weight(weight, blocks, torch.float32)
    moved = inputs @ dense_update(True, bases.free, space.update.delta.data).T
    assert record["free_input_share"] == 0.25
    assert record["kept_output_change"] == pytest.approx(float(moved.norm() / (inputs @ weight.T).norm()), rel=1e-5)
    space.kept = UseOfKept(0.0, 0.25)
    _, (silent,) = saved_weight(weight, blocks, torch.float32)
    assert silent["kept_output_change"] is None


def test_ranks_that_do_not_write_have_neither_weight_nor_records() -> None:
    weight = torch.randn(20, 12)
    blocks = [block(weight, slice(0, 20))]
    train(blocks, weight, torch.float32)
    assert saved_weight(None, blocks, torch.float32) == (None, [])


@pytest.mark.parametrize(("size", "most"), [(1.0, 1e-4), (1e-3, 1e-2), (1e-6, 1.0), (0.0, 0.0)])
def test_rounding_alone_is_no_fault(size: float, most: float) -> None:
    """However small the update is; of a tiny one much is rounded, and leaks."""
    torch.manual_seed(0)
    weight = torch.randn(40, 24)
    (space,) = blocks = [block(weight, slice(0, 40))]
    space.update.delta.data *= size
    train(blocks, weight, torch.float32)
    _, (record,) = saved_weight(weight.clone(), blocks, torch.float32)
    assert most / 100 <= record["leak_saved"] <= most


@pytest.mark.parametrize("size", [1.0, 1e-4, 0.0])
def test_a_weight_that_was_trained_from_other_numbers_is_a_fault(size: float) -> None:
    """The start model was read from other files than those that are saved."""
    torch.manual_seed(0)
    weight = torch.randn(40, 24)
    (space,) = blocks = [block(weight, slice(0, 40))]
    space.update.delta.data *= size
    train(blocks, weight, torch.float32)
    other = weight + 0.05 * torch.randn(40, 24)
    with pytest.raises(ValueError, match=r"block as saved would leak .* train the phase again"):
        saved_weight(other, blocks, torch.float32)
    assert saved_weight(other, blocks, torch.bfloat16).value is not None  # rounding may leak nearly as much
