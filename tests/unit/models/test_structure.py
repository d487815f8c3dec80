"""Config and tensors of a model against each other, by names and shapes alone."""

from collections.abc import Mapping
from typing import Any

import pytest

from osftx.errors import ConfigurationError
from osftx.models.files import ModelFiles
from osftx.models.structure import check_structure, tied

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "tie_word_embeddings": False,
}
KINDS = {"self_attn.q_proj.weight": (8, 8), "mlp.up_proj.weight": (24, 8), "input_layernorm.weight": (8,)}
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (61, 8),
    "lm_head.weight": (61, 8),
    "model.norm.weight": (8,),
    **{f"model.layers.{layer}.{kind}": shape for layer in range(3) for kind, shape in KINDS.items()},
}


def problems(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] = SHAPES, trusted: bool = False
) -> list[str]:
    try:
        check_structure(ModelFiles({**CONFIG, **config}, dict(shapes)), "some/where", trusted)
    except ConfigurationError as error:
        assert all(line.startswith("model.path=some/where: ") for line in error.problems)
        return [line.removeprefix("model.path=some/where: ") for line in error.problems]
    return []


def without(*names: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in SHAPES.items() if name not in names}


def test_what_belongs_together_is_no_problem() -> None:
    assert problems({}) == []
    assert problems({"tie_word_embeddings": True}, without("lm_head.weight")) == []
    nested = {"vocab_size": 61, "hidden_size": 8, "num_hidden_layers": 3}
    vision = {f"vision_tower.encoder.layers.{layer}.fc.weight": (4, 4) for layer in range(5)}
    config = {"model_type": "gemma3", "text_config": nested, "vocab_size": 7, "num_hidden_layers": 9}
    assert problems(config, {**SHAPES, **vision}) == []


@pytest.mark.parametrize("size", [60, 64])
def test_another_vocabulary(size: int) -> None:
    (line,) = problems({"vocab_size": size})
    assert line.startswith(
        f"config.json has vocab_size={size}, but model.embed_tokens.weight has 61 rows; set vocab_size"
    )
    (line,) = problems(
        {"model_type": "own"}, {**SHAPES, "model.embed_tokens.weight": (64, 8), "lm_head.weight": (64, 8)}
    )
    assert "model.embed_tokens.weight has 64 rows" in line


def test_a_head_of_another_size() -> None:
    (line,) = problems({}, {**SHAPES, "lm_head.weight": (64, 8)})
    assert "lm_head.weight has 64 rows" in line


def test_a_family_that_is_not_known_may_have_further_embeddings() -> None:
    """Mllama has eight more of them than its head has rows."""
    assert problems({"model_type": "mllama"}, {**SHAPES, "model.embed_tokens.weight": (69, 8)}) == []


def test_another_hidden_size() -> None:
    (line,) = problems({"hidden_size": 16})
    assert line.startswith("config.json has a hidden size of 16, but model.embed_tokens.weight has 8 columns")
    opt = {"model_type": "opt", "hidden_size": 16, "word_embed_proj_dim": 8}
    assert problems(opt) == []


def test_a_missing_head() -> None:
    (line,) = problems({}, without("lm_head.weight"))
    assert "the files hold no head (lm_head.weight), and transformers would begin with a random one" in line
    assert "set tie_word_embeddings to true if" in line
    assert problems({}, {**without("lm_head.weight"), "output.weight": (61, 8)}) == []  # under another name


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_lacks_a_tensor(layer: int, kind: str) -> None:
    (line,) = problems({}, without(f"model.layers.{layer}.{kind}"))
    other = 1 if layer == 0 else 0
    assert line.startswith(f"model.layers.{layer}.{kind} is missing, though model.layers.{other} has one")


def test_layers_may_differ_where_neither_is_less_than_the_other() -> None:
    """Layers without experts in a mixture; a family that is not known."""
    dense = "model.layers.0.mlp.up_proj.weight"
    mixed = {**without(dense), "model.layers.0.mlp.experts.0.up_proj.weight": (4, 8)}
    assert problems({"model_type": "qwen3_moe"}, mixed) == []
    assert problems({"model_type": "own"}, without(dense)) == []
    assert problems({}, {**SHAPES, "model.layers.0.self_attn.rotary_emb.inv_freq": (2,)}) == []


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_layers(count: int) -> None:
    (line,) = problems({"num_hidden_layers": count})
    assert line.startswith(f"config.json has {count} layers, but the files hold 3 (model.layers.0 to model.layers.2)")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module._orig_mod."])
def test_names_within_a_wrapper(prefix: str) -> None:
    (line,) = problems({}, {prefix + name: shape for name, shape in SHAPES.items()})
    assert f"names such as {prefix}model.embed_tokens.weight" in line
    assert f"remove {prefix!r} from the names" in line


def test_a_model_that_runs_its_own_code_is_left_to_the_ranks() -> None:
    own = {"auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}, "vocab_size": 7}
    assert problems(own, without("lm_head.weight"), trusted=True) == []
    assert len(problems(own, without("lm_head.weight"))) == 2


def test_tied_only_where_the_config_is_clear() -> None:
    assert tied({"tie_word_embeddings": True}) is True
    assert tied({"tie_word_embeddings": False, "text_config": {"vocab_size": 3}}) is False
    assert tied({"text_config": {"tie_word_embeddings": True}}) is True
    assert tied({"tie_word_embeddings": None}) is None
    assert tied({"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}}) is None
