"""What a rank holds between two steps, against numbers that were worked out by hand."""

import pytest
from one_layer import LAYER, NUMBERS, workload

from osftx.config.schema import OffloadConfig, OsftConfig, Precision, TrainingConfig
from osftx.methods.sizes import Held
from osftx.models.targets import find_targets
from osftx.planning.estimate.state import between_steps


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
