"""A status of a phase, for tests of callbacks that run in one process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from osftx.training.callbacks import PhaseStatus

START = PhaseStatus(
    name="study",
    index=0,
    method="osft",
    folder=Path("phase"),
    total_steps=4,
    steps=0,
    samples=0,
    tokens=0,
    learning_rate=1e-3,
    rank=0,
    world_size=1,
)


def status(**changes: Any) -> PhaseStatus:
    """The start of a phase of four steps on one rank, but for `changes`."""
    return replace(START, **changes)
