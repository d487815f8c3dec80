"""The tensors of a model's files against the model that its config describes."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import SIZES
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from osftx.models.completeness import check_complete, empty_model
from osftx.models.files import read_folder

NORM = "model.layers.1.post_attention_layernorm.weight"
MOE = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 6}
Change = Callable[[dict[str, Tensor]], None]


def make(folder: Path, family: str = "llama", change: Change | None = None, **settings: object) -> Path:
    """A small model, of whose tensors `change` alters some."""
    config = AutoConfig.for_model(family, **{**SIZES, "tie_word_embeddings": False, **settings})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    if change is not None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def check(folder: Path) -> None:
    check_complete(empty_model(folder), read_folder(folder).shapes, folder)


def problem(folder: Path) -> str:
    with pytest.raises(ValueError, match=re.escape(str(folder))) as raised:
        check(folder)
    return str(raised.value)


def without(*names: str) -> Change:
    return lambda tensors: [tensors.pop(name) for name in names] and None


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("qwen3_moe", MOE),
        ("gpt2", {"n_embd": 44, "n_layer": 2, "n_head": 4, "tie_word_embeddings": True}),
    ],
)
def test_what_transformers_saved_is_complete(tmp_path: Path, family: str, settings: dict[str, object]) -> None:
    check(make(tmp_path, family, **settings))


@pytest.mark.parametrize("name", ["lm_head.weight", NORM, "model.norm.weight", "model.embed_tokens.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    line = problem(make(tmp_path, change=without(name)))
    assert f"1 tensor is missing from the files: {name} (transformers would begin with random numbers)" in line
    assert "correct config.json" in line


def test_a_tied_model_needs_one_of_the_two(tmp_path: Path) -> None:
    """transformers ties the embeddings to the head where only that is there."""
    make(tmp_path, tie_word_embeddings=True)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    check(tmp_path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
def test_tensors_with_a_prefix_of_a_wrapper_have_no_place(tmp_path: Path, prefix: str) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    line = problem(make(tmp_path, change=rename))
    assert "missing from the files: lm_head.weight, " in line
    assert f"without a place in the model, though in the files: {prefix}lm_head.weight, " in line


def test_the_prefix_of_the_base_model_may_be_left_out(tmp_path: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    check(make(tmp_path, change=rename))


def test_layers_that_the_config_does_not_have_are_named(tmp_path: Path) -> None:
    make(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 1'))
    assert "9 tensors are without a place in the model, though in the files: model.layers.1." in problem(tmp_path)
    config.write_text(config.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 3'))
    assert "9 tensors are missing from the files: model.layers.2." in problem(tmp_path)


def test_left_overs_that_transformers_ignores_are_no_problem(tmp_path: Path) -> None:
    def add(*names: str) -> Change:
        return lambda tensors: tensors.update({name: torch.ones(2) for name in names})

    check(make(tmp_path / "llama", change=add("model.layers.0.self_attn.rotary_emb.inv_freq")))
    masks = add("transformer.h.0.attn.bias", "h.1.attn.masked_bias")
    with pytest.raises(ValueError, match="masked_bias"):
        check(make(tmp_path / "old", "gpt2", masks, n_embd=44, n_layer=2, n_head=4, tie_word_embeddings=True))
    mask = add("transformer.h.0.attn.bias")
    check(make(tmp_path / "gpt2", "gpt2", mask, n_embd=44, n_layer=2, n_head=4, tie_word_embeddings=True))
    assert "though in the files: v_head.summary.weight" in problem(
        make(tmp_path / "value", change=add("v_head.summary.weight"))
    )


def test_another_shape_is_named(tmp_path: Path) -> None:
    def pad(tensors: dict[str, Tensor]) -> None:
        tensors["model.embed_tokens.weight"] = torch.zeros(64, 44)

    assert "model.embed_tokens.weight [64, 44] instead of [61, 44]" in problem(make(tmp_path, change=pad))


def test_parts_of_experts_are_checked_one_by_one(tmp_path: Path) -> None:
    part = "model.layers.0.mlp.experts.1.up_proj.weight"
    lacking = make(tmp_path / "lacking", "qwen3_moe", without(part), **MOE)
    assert f"1 tensor is missing from the files: {part} (" in problem(lacking)

    def cut(tensors: dict[str, Tensor]) -> None:
        tensors[part] = tensors[part][:, :5].contiguous()

    assert f"{part} [6, 5] instead of [6, 44]" in problem(make(tmp_path / "cut", "qwen3_moe", cut, **MOE))
