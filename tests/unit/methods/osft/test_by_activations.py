"""The updates of targets whose subspaces the inputs choose that must be kept."""

import pytest

from osftx.methods.osft.by_activations import ByActivations
from osftx.models.targets import Target


@pytest.mark.parametrize(("ratio", "rank"), [(0.3, 6), (0.0, 0), (1.0, 20)])
def test_updates(ratio: float, rank: int) -> None:
    """One for the whole weight, on the input side whatever its shape; 0.3 of 20 directions are free."""
    rule = ByActivations()
    (update,) = rule.updates(Target("x", ((6, 20), (2, 20))), ratio)
    assert update == ("x", (8, 20), True, rank)
    assert update.trainable_numbers == 8 * rank
    assert rule.frozen_rank(update) == 0
