"""How many positions a model has, as the configs of the Hub write it down."""

from typing import Any

import pytest

from osftx.models.context import Context, context_of
from osftx.models.files import ModelFiles

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}


def context(config: dict[str, Any], **tensors: tuple[int, ...]) -> Context | None:
    return context_of(ModelFiles(config, {name.replace("_DOT_", "."): shape for name, shape in tensors.items()}))


@pytest.mark.parametrize(
    ("config", "declared"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": None}, 4096),
        # Qwen2.5's and Qwen3's model cards; the older spelling; both spellings.
        ({"max_position_embeddings": 32, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 128),
        ({"max_position_embeddings": 32, "rope_scaling": {"type": "yarn", "factor": 4}}, 128),
        (
            {
                "max_position_embeddings": 128,
                "rope_scaling": {
                    "type": "yarn",
                    "rope_type": "yarn",
                    "factor": 4,
                    "original_max_position_embeddings": 32,
                },
            },
            128,
        ),
        (
            {
                "max_position_embeddings": 32,
                "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
            },
            128,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": LLAMA3}, 131072),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 2.0}}, 4096),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "dynamic", "factor": 2.5}}, 5120),
        (
            {
                "max_position_embeddings": 131072,
                "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "longrope", "long_factor": [1.0], "short_factor": [1.0]},
            },
            131072,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "su", "long_factor": [1.0]}}, 131072),
        (
            {
                "max_position_embeddings": 64,
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                },
            },
            512,
        ),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "default", "factor": 9.0}}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": "yarn"}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": float("inf")}}, 64),
        ({"text_config": {"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": 2}}}, 128),
    ],
)
def test_rotary_positions_do_not_end(config: dict[str, Any], declared: int) -> None:
    assert context({"model_type": "llama", **config}) == Context(declared, ends=False)


@pytest.mark.parametrize("key", ["max_position_embeddings", "n_positions"])
def test_a_table_of_positions_ends(key: str) -> None:
    """OPT's has two rows more than positions, and a family may have both a table and scaling in its config."""
    assert context({"model_type": "gpt2", key: 1024}, wpe_DOT_weight=(1024, 8)) == Context(1024, ends=True)
    opt = {"model_type": "opt", key: 2048, "rope_theta": 1e4}
    assert context(opt, model_DOT_decoder_DOT_embed_positions_DOT_weight=(2050, 8)) == Context(2048, ends=True)


def test_without_a_word_in_the_config_the_table_tells() -> None:
    assert context({"model_type": "gpt2"}, wpe_DOT_weight=(1024, 8)) == Context(1024, ends=True)
    assert context({"model_type": "bloom"}) is None


def test_positions_of_an_image_are_not_those_of_the_text() -> None:
    tensors = {"vision_tower.embeddings.position_embedding.weight": (4, 8)}
    files = ModelFiles({"model_type": "gemma3", "text_config": {"max_position_embeddings": 64}}, tensors)
    assert context_of(files) == Context(64, ends=False)


def test_positions_of_an_unknown_kind_end() -> None:
    """GPT-J computes a table of its rotary positions once."""
    assert context({"model_type": "gptj", "n_positions": 2048, "rotary_dim": 64}) == Context(2048, ends=True)
    assert context({"model_type": "smollm3", "max_position_embeddings": 64, "rope_theta": 1e4}) == Context(
        64, ends=False
    )
