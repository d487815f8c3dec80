"""Targets against the tensors of real transformers models (on the meta device: names and shapes, no numbers)."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from osftx.errors import ConfigurationError
from osftx.models.families import FAMILIES
from osftx.models.targets import Target, find_targets, kinds, left_out, of_unknown_family

SIZES = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "pad_token_id": 0,
}
OPT_SIZES = {
    "vocab_size": 61,
    "hidden_size": 24,
    "word_embed_proj_dim": 24,
    "ffn_dim": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
Shapes = dict[str, tuple[int, ...]]


def real_model(model_type: str, **sizes: Any) -> tuple[dict[str, Any], Shapes, nn.Module]:
    """config.json, the shape of each tensor, and the module tree of a small model."""
    known = {"opt": OPT_SIZES, "gpt2": {}, "gemma3": {"text_config": SIZES}}
    config = AutoConfig.for_model(model_type, **(known.get(model_type, SIZES) | sizes))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return config.to_dict(), shapes, model


NO_TARGETS = ("lm_head", "vision_tower", "multi_modal_projector", "gate", "shared_expert_gate")
"""Linear layers outside of the text's decoder blocks, and routers."""


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_familys_targets_are_all_linear_layers_of_its_blocks(model_type: str) -> None:
    config, shapes, model = real_model(model_type)
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and not any(part in name.split(".") for part in NO_TARGETS)
    }
    targets = find_targets(config, shapes, None)
    assert {target.name for target in targets} == linear
    assert len(targets) == len(linear) > 0
    for target in targets:
        stored = shapes[f"{target.name}.weight"]
        assert target.weight_shape == (stored[::-1] if target.transposed else stored)
        assert target.transposed is isinstance(model.get_submodule(target.name), Conv1D)


def test_a_transposed_fused_weight() -> None:
    """GPT-2 holds query, key and value in one weight of shape (in, 3 out)."""
    shapes = {"h.0.attn.c_attn.weight": (24, 72), "h.0.mlp.c_fc.weight": (24, 96), "h.0.attn.bias": (1, 1, 8, 8)}
    attention, forward = find_targets({"model_type": "gpt2"}, shapes, [".*c_attn", ".*c_fc"])
    assert attention == Target("h.0.attn.c_attn", ((24, 24), (24, 24), (24, 24)), transposed=True)
    assert forward == Target("h.0.mlp.c_fc", ((96, 24),), transposed=True)


UNKNOWN: Shapes = {
    "model.embed_tokens.weight": (61, 4),
    **{
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(2)
        for name, shape in {
            "attention.dense": (4, 4),
            "mlp.gate": (8, 4),
            "mlp.gate_proj": (6, 4),
            "mlp.experts.0.w1": (6, 4),
            "mlp.experts.1.w1": (6, 4),
            "mlp.shared_expert_gate": (1, 4),
            "input_layernorm": (4,),
            "conv1d": (4, 1, 3),
        }.items()
    },
    "vision_tower.layers.0.fc1.weight": (4, 4),
    "lm_head.weight": (61, 4),
}


def test_of_an_unknown_family_the_linear_layers_of_the_blocks_are_targets() -> None:
    """No routers, experts, tables, vectors or heads."""
    targets = find_targets({"model_type": "new"}, UNKNOWN, None)
    assert [target.name for target in targets] == [
        f"model.layers.{layer}.{name}" for layer in range(2) for name in ("attention.dense", "mlp.gate_proj")
    ]
    told = of_unknown_family({"model_type": "new"}, targets)
    assert told.startswith("model_type='new'")
    assert "attention.dense x 2, mlp.gate_proj x 2" in told
    assert "osft.target_patterns" in told


def test_what_is_left_out_of_the_blocks() -> None:
    shapes = {name: shape for name, shape in UNKNOWN.items() if not name.startswith("vision")}
    shapes["model.layers.1.mlp.experts.gate_up_proj"] = (2, 12, 4)
    shapes["model.layers.1.mlp.experts.gate_up_proj_bias"] = (2, 12)
    targets = find_targets({"model_type": "new"}, shapes, None)
    assert kinds(left_out(shapes, targets)) == (
        "mlp.gate x 2, mlp.experts.N.w1 x 4, mlp.shared_expert_gate x 2, conv1d x 2, mlp.experts.gate_up_proj x 1"
    )


@pytest.mark.parametrize("model_type", ["llama", "opt", "gemma3_text"])
def test_plain_weights_are_one_block(model_type: str) -> None:
    config, shapes, _ = real_model(model_type)
    for target in find_targets(config, shapes, None):
        assert target.blocks == (shapes[f"{target.name}.weight"],)


def test_the_targets_of_a_llama_layer() -> None:
    config, shapes, _ = real_model("llama")
    first = [target for target in find_targets(config, shapes, None) if ".layers.0." in target.name]
    assert {target.name.removeprefix("model.layers.0."): target.blocks for target in first} == {
        "self_attn.q_proj": ((40, 24),),  # 4 heads of 10
        "self_attn.k_proj": ((20, 24),),  # 2 key-value heads of 10
        "self_attn.v_proj": ((20, 24),),
        "self_attn.o_proj": ((24, 40),),
        "mlp.gate_proj": ((36, 24),),
        "mlp.up_proj": ((36, 24),),
        "mlp.down_proj": ((24, 36),),
    }


@pytest.mark.parametrize(
    ("sizes", "query", "key_value"),
    [
        ({}, 40, 20),  # 4 heads of 10, 2 key-value heads
        ({"num_key_value_heads": 1}, 40, 10),
        ({"num_key_value_heads": 4}, 40, 40),
        ({"num_key_value_heads": None}, 40, 40),
        ({"head_dim": None}, 24, 12),  # 24 / 4 heads = 6
    ],
)
def test_phi3s_fused_weights_are_cut_into_their_matrices(sizes: dict[str, Any], query: int, key_value: int) -> None:
    if "head_dim" in sizes:
        plain = {key: value for key, value in SIZES.items() if key != "head_dim"}
        config = AutoConfig.for_model("phi3", **plain).to_dict()
        assert not config.get("head_dim")
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model("phi3", **plain))
        shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    else:
        config, shapes, _ = real_model("phi3", **sizes)
    blocks = {target.name: target.blocks for target in find_targets(config, shapes, None)}
    assert shapes["model.layers.1.self_attn.qkv_proj.weight"] == (query + 2 * key_value, 24)
    assert blocks["model.layers.1.self_attn.qkv_proj"] == ((query, 24), (key_value, 24), (key_value, 24))
    assert blocks["model.layers.1.mlp.gate_up_proj"] == ((36, 24), (36, 24))
    assert blocks["model.layers.1.self_attn.o_proj"] == ((24, query),)
    assert blocks["model.layers.1.mlp.down_proj"] == ((24, 36),)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_attention_heads": None, "hidden_size": 24},
        {"num_attention_heads": [4, 8], "head_dim": 6},
        {"num_attention_heads": 4, "hidden_size": 40},
        {"num_attention_heads": 4},
    ],
    ids=str,
)
def test_a_fused_weight_whose_parts_the_config_does_not_tell_is_one_matrix(sizes: dict[str, Any]) -> None:
    shapes = {"h.0.attn.qkv_proj.weight": (72, 24)}
    (target,) = find_targets({"model_type": "new", **sizes}, shapes, None)
    assert target.blocks == ((72, 24),)


def test_shared_keys_and_values_are_not_cut_into_thirds() -> None:
    """GPT-BigCode: 24 rows of queries, one head of 4 rows for the keys and one for the values."""
    (target,) = find_targets({"model_type": "gpt_bigcode"}, {"h.0.attn.c_attn.weight": (32, 24)}, None)
    assert target.blocks == ((32, 24),)


@pytest.mark.parametrize("path", ["facebook/opt-125m", "microsoft/phi3", "runs/gpt2/checkpoint", ""])
def test_the_text_of_a_path_does_not_matter(path: str) -> None:
    """A checkpoint of a Llama in a folder called `opt` is a Llama."""
    config, shapes, _ = real_model("llama")
    assert find_targets({**config, "_name_or_path": path}, shapes, None) == find_targets(config, shapes, None)


def test_targets_come_in_the_order_of_the_tensors_whatever_the_patterns() -> None:
    config, shapes, _ = real_model("llama")
    patterns = [r".*\.mlp\.up_proj", r".*\.self_attn\.q_proj", r".*\.self_attn\.[qk]_proj"]
    names = [target.name for target in find_targets(config, shapes, patterns)]
    wanted = ("q_proj", "k_proj", "up_proj")
    assert names == [
        name.removesuffix(".weight") for name in shapes if name.endswith(tuple(f"{w}.weight" for w in wanted))
    ]
    assert len(names) == 6


def problems_of(config: dict[str, Any], shapes: Shapes, patterns: list[str] | None) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        find_targets(config, shapes, patterns)
    return raised.value.problems


@pytest.mark.parametrize("config", [{"model_type": "mamba"}, {}])
def test_an_unknown_family_without_blocks_is_refused_with_the_known_ones_and_the_remedy(config: dict[str, Any]) -> None:
    (line,) = problems_of(config, {"stack.in_proj.weight": (4, 4)}, None)
    assert repr(config.get("model_type", "")) in line
    assert "llama" in line
    assert "osft.target_patterns=" in line


def test_a_pattern_that_is_no_regular_expression_is_refused() -> None:
    config, shapes, _ = real_model("llama")
    (line,) = problems_of(config, shapes, ["*.q_proj"])
    assert line.startswith("osft.target_patterns: '*.q_proj' is no regular expression")


def test_patterns_open_an_unknown_family() -> None:
    (target,) = find_targets({"model_type": "mamba"}, {"layers.0.in_proj.weight": (6, 4)}, [r".*\.in_proj"])
    assert target == Target("layers.0.in_proj", ((6, 4),))


def test_a_pattern_that_matches_nothing_is_refused_with_a_name_that_exists() -> None:
    config, shapes, _ = real_model("llama")
    # A part of a name is no match: the whole name counts.
    (line,) = problems_of(config, shapes, [r".*\.q_proj", "q_proj"])
    assert line.startswith("osft.target_patterns: 'q_proj' matches no weight")
    assert "'model.layers.0.self_attn.q_proj'" in line


def test_a_pattern_that_matches_a_vector_is_refused_with_its_shape() -> None:
    config, shapes, _ = real_model("llama")
    lines = problems_of(config, shapes, [r"model\.layers\.0\..*"])
    assert [line.split("'")[1] for line in lines] == [
        "model.layers.0.input_layernorm",
        "model.layers.0.post_attention_layernorm",
    ]
    assert all("(24,)" in line and "narrow the pattern" in line for line in lines)


def test_all_problems_of_the_patterns_come_together() -> None:
    config, shapes, _ = real_model("llama")
    lines = problems_of(config, shapes, ["nothing", r"model\.norm", "nor this"])
    assert len(lines) == 3


def test_a_family_whose_weights_are_not_there_is_refused() -> None:
    """Such as an adapter's folder, which has the config of its model and other tensors."""
    config, _, _ = real_model("llama")
    (line,) = problems_of(config, {"base.layers.0.self_attn.q_proj.lora_A.weight": (8, 24)}, None)
    assert "matches no weight" in line
