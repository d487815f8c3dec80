"""The updates of targets whose subspaces the weights choose."""

import pytest

from osftx.methods.osft.by_weights import ByWeights
from osftx.models.targets import Target


@pytest.mark.parametrize(("ratio", "numbers"), [(0.7, 330), (0.0, 0), (1.0, 30 * 10 + 8 * 20)])
def test_updates(ratio: float, numbers: int) -> None:
    """Ratio 0.7: k = 3 and 2, r = 7 and 6 of the short sides 10 and 8; 30 * 7 + 20 * 6 = 330."""
    updates = ByWeights().updates(Target("x", ((30, 10), (8, 20))), ratio)
    assert [update.on_input for update in updates] == [True, False]
    assert sum(update.trainable_numbers for update in updates) == numbers


def test_an_update_avoids_the_frozen_directions_of_both_sides() -> None:
    rule = ByWeights()
    updates = rule.updates(Target("x", ((30, 10), (8, 20))), 0.7)
    assert [(update.free_rank, rule.frozen_rank(update)) for update in updates] == [(7, 3), (6, 2)]


def test_the_blocks_of_a_fused_weight_have_names_of_their_own() -> None:
    target = Target("layers.0.self_attn.qkv_proj", ((4, 2), (2, 2), (2, 2)))
    assert [update.name for update in ByWeights().updates(target, 0.5)] == [
        "layers.0.self_attn.qkv_proj[0]",
        "layers.0.self_attn.qkv_proj[1]",
        "layers.0.self_attn.qkv_proj[2]",
    ]


def test_a_plain_weight_has_the_name_of_its_target() -> None:
    (update,) = ByWeights().updates(Target("layers.0.mlp.up_proj", ((6, 4),)), 0.5)
    assert update == ("layers.0.mlp.up_proj", (6, 4), True, 2)
