"""The memory of a rank as a whole, and what each setting would save of it."""

from dataclasses import replace
from typing import Any

import pytest
from one_layer import SHAPES, workload

from osftx.config.schema import BestState, CheckpointingConfig, OffloadConfig, OsftConfig, TrainingConfig
from osftx.data.samples import DataSummary
from osftx.methods.osft.rank_allocation import layers_of
from osftx.methods.sizes import Workload
from osftx.models.targets import find_targets
from osftx.planning.estimate import disk, memory


def test_each_setting_alone_with_what_it_saves_the_cheap_ones_first() -> None:
    training = TrainingConfig(
        max_tokens_per_gpu=4000, max_seq_len=3000, use_liger=False, activation_checkpointing=False
    )
    work = workload(0.25, training=training)
    found = dict(memory.savings("facts", work))
    assert list(found) == [
        "phases.facts.max_tokens_per_gpu=2000 (with max_seq_len=2000 or less)",
        "phases.facts.use_liger=true",
        "phases.facts.activation_checkpointing=true",
        "distributed.offload.bases=true",
        "distributed.offload.optimizer=true",
        "4 ranks instead of 2 (distributed.nproc_per_node, nnodes)",
        "phases.facts.unfreeze_rank_ratio=0.125",
    ]
    aside = 4 * (360_448 + 1_769_472) // 2 + 2 * 2_359_296 // 2
    assert found["distributed.offload.bases=true"] == aside
    assert found["distributed.offload.optimizer=true"] == 16 * 589_824 // 2
    everything = replace(
        work,
        training=replace(training, use_liger=True, activation_checkpointing=True),
        offload=OffloadConfig(optimizer=True, bases=True),
    )
    assert [setting.partition("=")[0] for setting, _ in memory.savings("facts", everything)] == [
        "phases.facts.max_tokens_per_gpu",
        "4 ranks instead of 2 (distributed.nproc_per_node, nnodes)",
        "phases.facts.unfreeze_rank_ratio",
    ]


def test_the_best_state_is_on_the_host_and_in_every_save() -> None:
    data, saving = DataSummary("facts.jsonl"), CheckpointingConfig(keep=2)
    usual, kept = workload(0.25), workload(0.25, best=BestState.keep)
    assert memory.of_phase(usual).host.best_state == 0
    assert memory.of_phase(kept).host.best_state == 4 * 589_824 // 2
    before, after = (disk.of_phase(work, data, 1000, saving) for work in (usual, kept))
    assert (after.checkpoint, after.while_training) == (2 * before.checkpoint, 3 * 16 * 589_824)
    handed_on = disk.of_phase(workload(0.25, best=BestState.hand_on), data, 1000, saving)
    assert (handed_on.checkpoint, handed_on.while_training) == (before.checkpoint, after.while_training)


def named_otherwise(layers: str, ratio: float | None, **settings: Any) -> Workload:
    """Of the same model with other names of its layers."""
    shapes = {name.replace("model.layers", layers): shape for name, shape in SHAPES.items()}
    targets = [] if ratio is None else find_targets({"model_type": "llama"}, shapes, None)
    return workload(ratio, shapes=shapes, targets=targets, **settings)


@pytest.mark.parametrize("layers", ["transformer.blocks", "transformer.h", "blocks"])
@pytest.mark.parametrize("subspace", ["weights", "activations"])
@pytest.mark.parametrize("ratio", [None, 0.25])
def test_the_name_of_the_layers_changes_no_estimate(layers: str, subspace: str, ratio: float | None) -> None:
    """Without its layers a model would seem to need no activations."""
    settings: dict[str, Any] = {"osft": OsftConfig(subspace=subspace)}
    usual, other = workload(ratio, **settings), named_otherwise(layers, ratio, **settings)
    assert other.layers == usual.layers
    assert len(other.layers) == 1
    assert other.vocabulary == usual.vocabulary == (1000, 512)
    assert memory.of_phase(other) == memory.of_phase(usual)
    data, saving = DataSummary("facts.jsonl", samples=100, tokens=8000), CheckpointingConfig()
    assert disk.of_phase(other, data, 1000, saving) == disk.of_phase(usual, data, 1000, saving)
    names = [target.name for target in other.targets]
    assert len(names) == (0 if ratio is None else 7)
    assert set(layers_of(names).values()) == {f"{layers}.0" for _ in names}
