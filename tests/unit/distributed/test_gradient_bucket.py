"""The buffer of gradients: no larger than they are, large enough for one matrix."""

from osftx.distributed.gradient_bucket import gradient_bucket


def test_a_large_trained_matrix_makes_the_bucket() -> None:
    assert gradient_bucket([]) == 0
    assert gradient_bucket([10, 20]) == 30
    assert gradient_bucket([40_000_000, 40_000_000]) == 50_000_000
    assert gradient_bucket([60_000_000, 40_000_000]) == 60_000_000
