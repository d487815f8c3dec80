"""What a step adds, against numbers that were worked out by hand."""

from dataclasses import replace

from one_layer import NUMBERS, workload

from osftx.planning.estimate.step import of_step


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
