"""A loaded model against its files, on every rank of several: the shards are cut here as ZeRO-3 cuts them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from small_model import SIZES
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from osftx.distributed.loaded_weights import check_loaded
from osftx.distributed.partition import flat_range

MOE = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 6}
GPT2 = {"n_embd": 44, "n_layer": 2, "n_head": 4}
NORM, EXPERT = "model.norm.weight", "model.layers.1.mlp.experts.1.up_proj.weight"


def make(folder: Path, family: str = "llama", **settings: object) -> Path:
    config = AutoConfig.for_model(family, **{**SIZES, "tie_word_embeddings": False, **settings})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def change(folder: Path, name: str, value: float, place: int = -1) -> None:
    """Set one number of a tensor of the files."""
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[place] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def problems(model: nn.Module, folder: Path, ranks: int, patch: pytest.MonkeyPatch) -> dict[int, str]:
    """What each rank that finds something would tell, without what the others find."""
    found = {}
    for rank in range(ranks):
        with as_rank(model, rank, ranks, patch):
            try:
                check_loaded(model, folder)
            except ValueError as error:
                found[rank] = str(error)
    return found


@contextmanager
def as_rank(model: nn.Module, rank: int, ranks: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    patch.setattr(dist, "get_rank", lambda: rank)
    patch.setattr(dist, "get_world_size", lambda: ranks)
    patch.setattr(dist, "all_gather_object", lambda every, found: every.__setitem__(slice(None), [found] * len(every)))
    for parameter in model.parameters():
        first, last = flat_range(parameter.numel(), rank, ranks)
        padding = -(-parameter.numel() // ranks) - (last - first)
        parameter.ds_tensor = functional.pad(parameter.detach().flatten()[first:last], (0, padding))
        parameter.ds_shape = parameter.shape
    yield


def load(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize(("ranks", "dtype"), [(1, torch.float32), (3, torch.bfloat16), (50, torch.float32)])
@pytest.mark.parametrize(
    ("family", "settings"),
    [("llama", {}), ("llama", {"tie_word_embeddings": True}), ("gpt2", GPT2), ("qwen3_moe", MOE)],
)
def test_what_was_loaded_is_what_the_files_hold(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    family: str,
    settings: dict[str, object],
    ranks: int,
    dtype: torch.dtype,
) -> None:
    """The norms have 44 numbers: with 50 ranks some have nothing."""
    make(tmp_path, family, **settings)
    assert problems(load(tmp_path, dtype), tmp_path, ranks, monkeypatch) == {}
    assert "could not be compared" not in capsys.readouterr().out


@pytest.mark.parametrize("name", [NORM, "lm_head.weight", "model.layers.0.self_attn.q_proj.weight"])
def test_the_rank_that_holds_another_number_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model = load(make(tmp_path))
    change(tmp_path, name, 7.0)
    found = problems(model, tmp_path, 3, monkeypatch)
    assert found.keys() == {2}
    assert f"{tmp_path}: {name} has other values in the files than in the model" in found[2]
    assert "save the model again" in found[2]


def test_experts_are_compared_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(make(tmp_path, "qwen3_moe", **MOE))
    change(tmp_path, EXPERT, 7.0)
    (told,) = problems(model, tmp_path, 2, monkeypatch).values()
    assert f"{EXPERT} has other values" in told


def test_a_saved_buffer_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(make(tmp_path))
    model.register_buffer("bias_of_routing", torch.ones(3))
    tensors = load_file(tmp_path / "model.safetensors") | {"bias_of_routing": torch.ones(3)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert problems(model, tmp_path, 2, monkeypatch) == {}
    change(tmp_path, "bias_of_routing", 2.0)
    assert problems(model, tmp_path, 2, monkeypatch).keys() == {0, 1}


def test_a_head_that_the_config_ties_to_other_embeddings_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ZeRO-3 loads it: it ties the two without looking at them."""
    make(tmp_path)
    model = load(tmp_path)
    model.lm_head.weight = model.model.embed_tokens.weight
    (told,) = problems(model, tmp_path, 1, monkeypatch).values()
    assert "lm_head.weight has other values in the files" in told


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e39])
@pytest.mark.parametrize("name", [NORM, "model.embed_tokens.weight"])
def test_numbers_that_are_none_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, name: str
) -> None:
    """The last one is finite in the files alone."""
    make(tmp_path)
    tensors = {name: tensor.double() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    change(tmp_path, name, value, 0)
    found = problems(load(tmp_path), tmp_path, 2, monkeypatch)
    assert found.keys() == {0}
    assert f"{tmp_path}: {name} has NaN or infinite values" in found[0]
    assert "other values in the files" not in found[0]
