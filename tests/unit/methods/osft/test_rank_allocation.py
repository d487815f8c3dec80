"""Ranks by the importance of layers: the formula at its ends and in between."""

import pytest

from osftx.errors import ConfigurationError
from osftx.methods.osft.rank_allocation import check_allocation, layer_ratios, layers_of


def test_the_ratio_is_the_mean_and_importance_keeps_more() -> None:
    ratios = layer_ratios({"layers.0": 0.5, "layers.1": 1.0, "layers.2": 0.75}, ratio=0.2, minimum_retention=0.1)
    # I = 2/3, 4/3, 1; the share that stays is 0.1 + I * 0.7.
    assert ratios == {"layers.0": 0.433333, "layers.1": 0.0, "layers.2": 0.2}


def test_equal_layers_get_what_a_uniform_allocation_gives() -> None:
    assert layer_ratios({"a": 0.3, "b": 0.3}, 0.3, 0.1) == {"a": 0.3, "b": 0.3}


def test_nothing_is_kept_beyond_all_or_below_nothing() -> None:
    ratios = layer_ratios({"a": 3.0, "b": -1.0}, 0.2, 0.1)
    assert ratios == {"a": 0.0, "b": 1.0}
    assert layer_ratios({"a": 0.9, "b": 0.1}, 0.9, 0.1) == {"a": 0.9, "b": 0.9}  # nothing to share out


def test_similarities_without_a_positive_mean_rank_nothing() -> None:
    with pytest.raises(ValueError, match="mean cosine of 0"):
        layer_ratios({"a": 0.5, "b": -0.5}, 0.2, 0.1)


def test_targets_lie_in_decoder_layers() -> None:
    layers = {
        "model.layers.0.mlp.up_proj": "model.layers.0",
        "model.layers.12.self_attn.q_proj": "model.layers.12",
        "transformer.h.3.mlp.c_fc": "transformer.h.3",
        "transformer.blocks.4.ffn.up_proj": "transformer.blocks.4",
        "layers.5.mlp.experts.7.up_proj": "layers.5",
    }
    assert layers_of(list(layers)) == layers
    with pytest.raises(ConfigurationError, match="lm_head lies in no decoder layer"):
        layers_of(["lm_head"])


def test_a_minimum_that_leaves_a_phase_nothing_to_share_out_is_refused() -> None:
    targets = ["layers.0.up_proj"]
    check_allocation(targets, {"a": 0.3, "b": 0.9}, 0.1)  # 1 - 0.9 is below 0.1 in binary
    with pytest.raises(ConfigurationError) as raised:
        check_allocation(targets, {"a": 0.3, "b": 0.9}, 0.2)
    (problem,) = raised.value.problems
    assert problem.startswith("osft.minimum_retention=0.2: phase b keeps 0.1 of the directions on average")
    assert problem.endswith("set it to 0.1 or less")
    with pytest.raises(ConfigurationError, match="lm_head lies in no decoder layer"):
        check_allocation(["lm_head"], {"a": 0.3}, 0.1)
