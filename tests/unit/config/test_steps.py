"""How many steps a phase takes, and when it validates."""

from typing import Any

import pytest

from osftx.config.schema import TrainingConfig, ValidationConfig
from osftx.config.steps import total_steps, validation_steps

TRAINING = TrainingConfig(num_epochs=3, effective_batch_size=4)


@pytest.mark.parametrize("samples, steps", [(0, 0), (1, 1), (4, 3), (10, 8)])
def test_total_steps(samples: int, steps: int) -> None:
    assert total_steps(TRAINING, samples) == steps


@pytest.mark.parametrize(
    ("settings", "due"),
    [
        # 10 samples in 3 epochs, 4 a step: 8 steps, and the epochs end in steps 3, 5 and 8.
        ({}, {8}),
        ({"every_steps": 3}, {3, 6, 8}),
        ({"every_steps": 3, "at_end": False}, {3, 6}),
        ({"every_steps": 9, "at_end": False}, set()),
        ({"every_epoch": True, "at_end": False}, {3, 5, 8}),
        ({"every_epoch": True, "every_steps": 2}, {2, 3, 4, 5, 6, 8}),
    ],
    ids=str,
)
def test_validation_steps(settings: dict[str, Any], due: set[int]) -> None:
    assert validation_steps(ValidationConfig(split=0.1, **settings), TRAINING, samples=10) == due
