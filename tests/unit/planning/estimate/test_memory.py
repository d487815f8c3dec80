"""What a phase will hold and write, against numbers that were worked out by hand."""

from dataclasses import replace
from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osftx.planning.estimate.workload import Workload, untied

from osftx.config.schema import (
    BestState,
    CheckpointingConfig,
    OffloadConfig,
    OsftConfig,
    Precision,
    TrainingConfig,
)
from osftx.data.samples import DataSummary
from osftx.distributed.partition import row_range
from osftx.models.files import ModelFiles
from osftx.models.targets import find_targets
from osftx.planning.estimate import disk, memory
from osftx.planning.estimate.disk import Disk, Room, needed
from osftx.planning.estimate.state import Held, between_steps, rows_by_rank
from osftx.planning.estimate.step import of_step

LAYER = "model.layers.0"
SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (1000, 512),
    f"{LAYER}.input_layernorm.weight": (512,),
    f"{LAYER}.mlp.down_proj.weight": (512, 1024),
    f"{LAYER}.mlp.gate_proj.weight": (1024, 512),
    f"{LAYER}.mlp.up_proj.weight": (1024, 512),
    f"{LAYER}.post_attention_layernorm.weight": (512,),
    f"{LAYER}.self_attn.k_proj.weight": (256, 512),
    f"{LAYER}.self_attn.o_proj.weight": (512, 512),
    f"{LAYER}.self_attn.q_proj.weight": (512, 512),
    f"{LAYER}.self_attn.v_proj.weight": (256, 512),
    "model.norm.weight": (512,),
    "lm_head.weight": (1000, 512),
}
"""A Llama of one layer: 3,384,832 numbers, 2,359,296 of them in the seven targets, 1536 in the norms."""
NUMBERS = 3_384_832


def workload(ratio: float | None, **settings: Any) -> Workload:
    """Of an OSFT phase with this ratio, or of `sft` where it is None; bf16 on two ranks."""
    work = Workload(
        shapes=SHAPES,
        targets=[] if ratio is None else find_targets({"model_type": "llama"}, SHAPES, None),
        method="sft" if ratio is None else "osft",
        ratio=ratio,
        training=TrainingConfig(max_tokens_per_gpu=10, max_seq_len=5, activation_checkpointing=False),
        osft=OsftConfig(),
        offload=OffloadConfig(),
        ranks=2,
    )
    return replace(work, **settings)


def test_plain_fine_tuning_holds_eighteen_bytes_a_number() -> None:
    device, host = between_steps(workload(None))
    shard = NUMBERS // 2
    # The norms are below 100,000 numbers, so each rank has them whole as well.
    assert device == Held(2 * shard + 2 * 1536, 4 * shard, 4 * shard, 8 * shard, bucket=4 * NUMBERS)
    assert host == Held()


def test_osft_holds_updates_bases_and_starting_weights() -> None:
    """Ratio 0.25 frees 128 of 512 directions, 64 of 256 in k and v.

    Updates (long side, free): q and o 65,536 numbers each, k and v 32,768, the MLP's three 131,072: 589,824.
    Free bases (short side, free): q, o and the MLP's three 65,536 each, k and v 16,384: 360,448.
    Frozen ones (long side, kept): q and o 512 * 384, k and v 512 * 192, the MLP's three 1024 * 384: 1,769,472.
    """
    device, host = between_steps(workload(0.25))
    whole = 1536 + 2 * 65_536 + 2 * 32_768  # norms, and the updates of attention
    assert device == Held(
        parameters=2 * (NUMBERS // 2 + 589_824 // 2 + whole),
        gradients=4 * 589_824 // 2,
        master=4 * 589_824 // 2,
        moments=8 * 589_824 // 2,
        bucket=4 * 589_824,
        bases=2 * (360_448 // 2 + 360_448) + 4 * (360_448 + 1_769_472) // 2,  # each free basis is small, and whole too
        starting_weights=2 * 2_359_296 // 2,
    )
    assert host == Held()


def test_one_rank_keeps_nothing_twice() -> None:
    device, _ = between_steps(workload(0.25, ranks=1))
    assert device.parameters == 2 * (NUMBERS + 589_824)
    assert device.bases == 2 * 360_448 + 4 * (360_448 + 1_769_472)


def test_float32_doubles_what_is_in_the_precision_of_training() -> None:
    half, full = (
        between_steps(workload(0.25, training=TrainingConfig(train_dtype=dtype)))[0]
        for dtype in (Precision.bfloat16, Precision.float32)
    )
    assert (full.parameters, full.starting_weights) == (2 * half.parameters, 2 * half.starting_weights)
    assert (full.gradients, full.master, full.moments, full.bucket) == (
        half.gradients,
        half.master,
        half.moments,
        half.bucket,
    )


@pytest.mark.parametrize(
    ("ratio", "train_others", "trained"),
    [
        (0.0, False, 0),
        (1.0, False, 2_359_296),
        (0.0, True, NUMBERS - 2_359_296),
        (0.25, True, 589_824 + NUMBERS - 2_359_296),
        (1.0, True, NUMBERS),
    ],
)
def test_what_is_trained_at_the_ends_of_the_ratio_and_with_the_rest(
    ratio: float, train_others: bool, trained: int
) -> None:
    device, _ = between_steps(workload(ratio, osft=OsftConfig(train_others=train_others)))
    assert device.gradients == 4 * trained // 2
    assert device.bucket == 4 * trained
    assert (device.bases > 0) is (device.starting_weights > 0) is (0 < ratio < 1)


def test_offloading_moves_to_the_host_and_the_cpu_optimizer_has_its_gradients_twice() -> None:
    usual, _ = between_steps(workload(0.25))
    device, host = between_steps(workload(0.25, offload=OffloadConfig(bases=True)))
    assert host == Held(bases=4 * (360_448 + 1_769_472) // 2, starting_weights=usual.starting_weights)
    assert device.total + host.total == usual.total
    device, host = between_steps(workload(0.25, offload=OffloadConfig(optimizer=True)))
    assert host == Held(gradients=2 * usual.gradients, master=usual.master, moments=usual.moments)
    assert (device.parameters, device.bucket, device.bases) == (usual.parameters, usual.bucket, usual.bases)
    assert device.gradients == 0


def test_by_activations_energies_are_whole_on_every_rank_and_moments_wait_on_the_host() -> None:
    """The inputs: 512 features for q, k, v; 512 for o; 512 for gate and up; 1024 for down. A quarter of each is free.

    Updates (out, free): q and o 65,536, k and v 32,768, gate and up 131,072, down 512 * 256 = 131,072. Free bases
    (in, free): 65,536 for six targets, 1024 * 256 for down. Nothing is frozen on the other side.
    """
    device, host = between_steps(workload(0.25, osft=OsftConfig(subspace="activations")))
    free = 6 * 65_536 + 262_144
    energies = 3 * 128**2 + 256**2
    assert device.bases == 2 * (free // 2 + 6 * 65_536) + 4 * (free // 2) + 4 * energies
    # One rank has the three small moments, the other that of down, which is larger.
    assert host == Held(kept_inputs=1024 * 1025 + 4 * 1024)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 70), st.data())
def test_rows_are_counted_as_they_are_cut(rows: int, columns: int, ranks: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    ranges = [row_range(rows, columns, rank, ranks) for rank in range(ranks)]
    inside = [len(range(max(start, first), min(stop, last))) for start, stop in ranges]
    assert rows_by_rank((rows, columns), ranks, first, last).tolist() == inside


def test_the_fused_rows_of_a_weight_are_counted_where_they_lie() -> None:
    """A fused q, k, v with blocks of 4, 2 and 2 rows on four ranks: k lies on one rank, which holds its free basis."""
    shapes = {f"{LAYER}.self_attn.qkv_proj.weight": (8, 4)}
    config = {"model_type": "phi3", "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2}
    targets = find_targets(config, shapes, None)
    work = workload(
        0.5, shapes=shapes, targets=targets, ranks=4, training=TrainingConfig(train_dtype=Precision.float32)
    )
    # q (4, 4) is free on its input side, k and v (2, 4) on the output side, one direction of two each. Ranks 2 and 3
    # have one row of q's free basis (4, 2), the two rows of k's or v's (2, 1), and of the frozen bases (4, 2), (4, 1),
    # (4, 1), cut like the updates, one row each. The small bases have 8 + 2 + 2 numbers.
    fp32 = 1 * 2 + 2 * 1 + 1 * 2 + 1 * 1 + 1 * 1
    assert between_steps(work)[0].bases == 4 * (2 + 1 + 1 + 12) + 4 * fp32
    assert between_steps(work)[0].starting_weights == 4 * 8


def test_in_bfloat16_free_ranks_are_filled_up() -> None:
    """Directions of 10 x 10 at 0.5: 5 of them, in 8 columns; what is written is not filled up."""
    shapes = {f"{LAYER}.self_attn.q_proj.weight": (10, 10)}
    targets = find_targets({"model_type": "llama"}, shapes, None)
    work = workload(0.5, shapes=shapes, targets=targets, ranks=1, training=TrainingConfig())
    assert work.trained == [10 * 8]
    assert between_steps(work)[0].bases == 2 * 10 * 8 + 4 * (10 * 8 + 10 * 5)


@pytest.mark.parametrize("nested", [False, True])
def test_a_tied_head_in_the_files_is_counted_once(nested: bool) -> None:
    def shapes(tied: bool) -> Any:
        config: dict[str, Any] = {"tie_word_embeddings": tied}
        return untied(ModelFiles({"text_config": config} if nested else config, SHAPES))

    assert shapes(False) == SHAPES
    assert set(SHAPES) - set(shapes(True)) == {"lm_head.weight"}


def test_the_projection_behind_the_attention_reads_an_input_of_its_own() -> None:
    """Also in GPT-2, where it is as wide as the other one."""
    wide = {"attn.c_attn": (8, 24), "attn.c_proj": (8, 8), "mlp.c_fc": (8, 32), "mlp.c_proj": (32, 8)}
    shapes = {f"h.0.{name}.weight": shape for name, shape in wide.items()}
    targets = find_targets({"model_type": "gpt2"}, shapes, None)
    osft = OsftConfig(subspace="activations")
    assert workload(0.5, shapes=shapes, targets=targets, osft=osft).inputs == [8, 8, 8, 32]


def test_a_step_keeps_what_linear_layers_read_and_write() -> None:
    """Features written: 512 + 256 + 256 + 512 + 1024 + 1024 + 512; read: 512 three times and 1024."""
    layer = 4096 + 2560
    fused = of_step(workload(0.25))
    assert fused.activations == 10 * (2 * layer + (4 + 2 * 2) * 512)
    assert fused.loss == 10 * 512 * (4 + 2 * 2)
    plain = of_step(workload(0.25, training=replace(workload(0.25).training, use_liger=False)))
    assert plain.activations - fused.activations == 10 * (2 * 1024 + 2 * 512 * 2)  # activation function; norms in fp32
    assert plain.loss == 10 * 3 * 4 * 1000
    again = of_step(workload(0.25, training=replace(workload(0.25).training, activation_checkpointing=True)))
    assert again.activations == 10 * (2 * 512 + (4 + 2 * 2) * 512)
    assert again.gradients - fused.gradients == 10 * 2 * layer


def test_all_of_a_small_model_is_gathered_and_a_part_of_a_large_one() -> None:
    small = of_step(workload(None))
    assert small.gathered == 2 * (NUMBERS - 1536)
    many = {f"model.layers.{place}.mlp.up_proj.weight": (10_000, 10_000) for place in range(20)}
    large = of_step(workload(None, shapes=many))
    assert large.gathered == 2 * 1_000_000_000
    assert large.rise > large.gathered + large.activations
    assert of_step(workload(None, ranks=1)).gathered == 0


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


def test_what_a_phase_writes() -> None:
    data = DataSummary("facts.jsonl", samples=100, tokens=8000)
    found = disk.of_phase(workload(0.25), NUMBERS, data, 1000, CheckpointingConfig(keep=2))
    assert found == Disk(
        checkpoint=2 * NUMBERS,
        bases=4 * (360_448 + 1_769_472),
        kept_inputs=0,
        eigenvectors=8 * (5 * 512**2 + 2 * 256**2),
        data=4 * 8000 + 8000 // 8 + 24 * 100,
        while_training=3 * 12 * 589_824,  # two that are kept, and one that is being written
    )
    assert disk.of_phase(workload(0.25), NUMBERS, data, 1, CheckpointingConfig(keep=2)).while_training == 12 * 589_824
    thrifty = disk.of_phase(workload(0.25, osft=OsftConfig(save_bases=False)), NUMBERS, data, 0, CheckpointingConfig())
    assert (thrifty.bases, thrifty.while_training) == (0, found.bases)
    alone = disk.of_phase(workload(0.25), NUMBERS, data, 1000, None)
    assert (alone.eigenvectors, alone.while_training, alone.result) == (0, 0, found.result)
    plain = disk.of_phase(workload(None), NUMBERS, data, 1000, CheckpointingConfig(keep=1))
    assert (plain.bases, plain.eigenvectors, plain.while_training) == (0, 0, 2 * 12 * NUMBERS)


def test_the_best_state_is_on_the_host_and_in_every_save() -> None:
    data, saving = DataSummary("facts.jsonl"), CheckpointingConfig(keep=2)
    usual, kept = workload(0.25), workload(0.25, best=BestState.keep)
    assert memory.of_phase(usual).host.best_state == 0
    assert memory.of_phase(kept).host.best_state == 4 * 589_824 // 2
    before, after = (disk.of_phase(work, NUMBERS, data, 1000, saving) for work in (usual, kept))
    assert (after.checkpoint, after.while_training) == (2 * before.checkpoint, 3 * 16 * 589_824)
    handed_on = disk.of_phase(workload(0.25, best=BestState.hand_on), NUMBERS, data, 1000, saving)
    assert (handed_on.checkpoint, handed_on.while_training) == (before.checkpoint, after.while_training)


def test_by_activations_a_phase_writes_moments_and_energies() -> None:
    work = workload(0.25, osft=OsftConfig(subspace="activations"))
    found = disk.of_phase(work, NUMBERS, DataSummary("facts.jsonl"), 0, CheckpointingConfig())
    roots = 3 * (512 * 513 + 4 * 512) + 1024 * 1025 + 4 * 1024
    vectors = 4 * (3 * 512**2 + 1024**2)
    assert (found.kept_inputs, found.eigenvectors, found.while_training) == (roots, vectors, roots)
    assert found.bases == 4 * (6 * 65_536 + 262_144 + 6 * 128**2 + 256**2)


def test_bases_that_do_not_stay_are_there_while_their_phase_trains() -> None:
    phase = Disk(100, 30, 0, 7, 1, 50)
    assert phase.without_bases(with_store=True) == Disk(100, 0, 0, 7, 1, 80)
    assert phase.without_bases(with_store=False) == Disk(100, 0, 0, 7, 1, 50)


def test_phases_add_up_but_only_one_trains_at_a_time() -> None:
    phases = [Disk(100, 30, 0, 7, 1, 50), Disk(100, 20, 0, 7, 1, 40)]
    assert needed(phases, with_store=False, one_disk=True) == Room(250, 0)
    assert needed(phases, with_store=True, one_disk=True) == Room(0, 264 + 50)
    assert needed(phases, with_store=True, one_disk=False) == Room(130, 264 + 80)
    assert needed([], with_store=True, one_disk=False) == Room(0, 0)


def test_the_hand_count_is_of_this_model() -> None:
    assert sum(map(prod, SHAPES.values())) == NUMBERS
