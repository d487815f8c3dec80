"""Sizes of an OSFT phase."""

from one_layer import workload

from osftx.config.schema import OsftConfig
from osftx.methods.osft.sizes import inputs, updates
from osftx.models.targets import find_targets


def test_an_update_lies_in_its_weight() -> None:
    """A fused q, k, v: q is free on its input side, k and v on their output side, one direction of two each."""
    shapes = {"model.layers.0.self_attn.qkv_proj.weight": (8, 4)}
    config = {"model_type": "phi3", "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2}
    targets = find_targets(config, shapes, None)
    found = updates(workload(0.5, shapes=shapes, targets=targets))
    assert [(update.weight, update.first_row) for update in found] == [((8, 4), 0), ((8, 4), 4), ((8, 4), 6)]
    assert [(update.own_side, update.other_side) for update in found] == [(4, 4), (2, 4), (2, 4)]
    assert [(update.shape.free_rank, update.frozen_rank) for update in found] == [(2, 2), (1, 1), (1, 1)]
    assert [(update.columns, update.stored_numbers) for update in found] == [(8, 32)] * 3, "16 bits are aligned"


def test_at_the_ends_of_the_ratio_nothing_is_updated() -> None:
    assert len(updates(workload(0.25))) == 7
    assert updates(workload(0.0)) == updates(workload(1.0)) == []


def test_by_weights_no_input_is_kept() -> None:
    assert inputs(workload(0.25)) == []
    assert inputs(workload(0.25, osft=OsftConfig(subspace="activations"))) == [1024, 512, 512, 512]


def test_the_projection_behind_the_attention_reads_an_input_of_its_own() -> None:
    """Also in GPT-2, where it is as wide as the other one."""
    wide = {"attn.c_attn": (8, 24), "attn.c_proj": (8, 8), "mlp.c_fc": (8, 32), "mlp.c_proj": (32, 8)}
    shapes = {f"h.0.{name}.weight": shape for name, shape in wide.items()}
    targets = find_targets({"model_type": "gpt2"}, shapes, None)
    osft = OsftConfig(subspace="activations")
    assert inputs(workload(0.5, shapes=shapes, targets=targets, osft=osft)) == [8, 8, 8, 32]
