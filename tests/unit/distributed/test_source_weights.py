"""What the files have beyond the precision in which a model is read."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file

from osftx.distributed.source_weights import SourceWeights


@pytest.fixture
def source(tmp_path: Path) -> SourceWeights:
    torch.manual_seed(0)
    tensors = {"fine": torch.randn(7, 5), "norm": torch.randn(7)}
    tensors |= {"half": torch.randn(4, 3).half(), "coarse": torch.randn(4, 3).bfloat16()}
    save_file(tensors, tmp_path / "model.safetensors")
    stored = {name: name for name in tensors} | {"turned": "fine", "renamed": "fine"}
    return SourceWeights(tmp_path, stored, {"turned"})


def test_only_what_would_be_lost_is_read(source: SourceWeights) -> None:
    found = {name: source.rows(name, torch.bfloat16, 1, 3) for name in ("fine", "half", "coarse", "missing")}
    assert [name for name, rows in found.items() if rows is not None] == ["fine", "half"]
    assert found["fine"] is not None
    assert (found["fine"].dtype, tuple(found["fine"].shape)) == (torch.float32, (2, 5))
    assert all(source.rows(name, torch.float32, 0, 2) is None for name in found)


def test_a_parameter_may_have_another_name_there_and_lie_transposed(source: SourceWeights) -> None:
    plain = source.rows("fine", torch.bfloat16, 0, 7)
    renamed, turned = source.rows("renamed", torch.bfloat16, 2, 4), source.rows("turned", torch.bfloat16, 2, 4)
    assert plain is not None
    assert renamed is not None
    assert turned is not None
    assert torch.equal(renamed, plain[2:4])
    assert torch.equal(turned, plain.T[2:4])


@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
@pytest.mark.parametrize("name", ["fine", "norm"])
def test_the_shards_of_all_ranks_are_the_tensor(
    source: SourceWeights, monkeypatch: pytest.MonkeyPatch, ranks: int, name: str
) -> None:
    """With nine ranks one of a vector of seven has nothing."""
    whole = source.rows(name, torch.bfloat16, 0, 7)
    assert whole is not None
    parameter = SimpleNamespace(
        ds_shape=whole.shape, ds_numel=whole.numel(), dtype=torch.bfloat16, device=torch.device("cpu")
    )
    monkeypatch.setattr(dist, "get_world_size", lambda: ranks)
    shards = []
    for rank in range(ranks):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        shard = source.shard(name, parameter)
        assert shard is not None
        shards.append(shard)
    assert torch.equal(torch.cat(shards), whole.flatten())
