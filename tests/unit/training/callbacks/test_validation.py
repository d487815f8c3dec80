"""When a phase validates, which measurement is the best, and what is said of it."""

from collections.abc import Iterator
from typing import cast

import pytest
from callback_status import status

from osftx.config.schema import BestState
from osftx.training.callbacks.validation import Validation, outcome
from osftx.training.progress import Progress
from osftx.training.snapshot import Snapshot

LOSSES = [3.0, 1.0, 2.0, 1.0]


class Copies:
    """Stands for a snapshot: the steps at which it was taken."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.taken: list[int] = []

    def take(self) -> None:
        self.taken.append(self.progress.steps)


def trained(due: set[int]) -> Iterator[tuple[Copies, dict[str, float]]]:
    """After each step: the copies taken so far, and the step's metrics."""
    copies = Copies()

    def measure(steps: int) -> dict[str, float]:
        return {"loss": LOSSES[steps - 1], "token_accuracy": 0.5, "exact_match": 0.0}

    validation = Validation(frozenset(due), measure, copies.progress, cast(Snapshot, copies))
    for _ in LOSSES:
        copies.progress.steps += 1
        metrics = {"loss": 1.0}
        validation.on_step(status(steps=copies.progress.steps), metrics)
        yield copies, metrics


def test_a_copy_is_taken_at_each_new_best_alone() -> None:
    lines = [(list(copies.taken), line.get("val_loss")) for copies, line in trained({1, 2, 3, 4})]
    assert lines == [([1], 3.0), ([1, 2], 1.0), ([1, 2], 2.0), ([1, 2], 1.0)]


def test_nothing_is_measured_where_it_is_not_due() -> None:
    *_, (copies, line) = trained({1, 3})
    assert line == {"loss": 1.0}
    assert copies.taken == [1, 3]
    assert [point["step"] for point in copies.progress.validation] == [1, 3]


@pytest.mark.parametrize(
    ("best", "checkpoint_step"), [(BestState.ignore, 4), (BestState.keep, 4), (BestState.hand_on, 2)]
)
def test_what_is_said_of_it(best: BestState, checkpoint_step: int) -> None:
    *_, (copies, _) = trained({1, 2, 3, 4})
    said = outcome(copies.progress, best)
    assert said is not None
    assert said["points"][2] == {"step": 3, "loss": 2.0, "token_accuracy": 0.5}
    assert said["best"] == {"step": 2, "loss": 1.0, "token_accuracy": 0.5}
    assert said["checkpoint_step"] == checkpoint_step
    assert outcome(Progress(steps=4), best) is None
