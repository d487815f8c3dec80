"""The loss on samples that a phase does not train on, while it trains, and the state in which it was lowest."""

from collections.abc import Callable, Mapping
from typing import Any

from osftx.config.schema import BestState
from osftx.training.callbacks.base import Callback, PhaseStatus
from osftx.training.progress import Progress
from osftx.training.snapshot import Snapshot


class Validation(Callback):
    """Measures after the steps that are `due`, and copies each new best state into `snapshot`, if there is one.

    `measure` is given the number of steps that were trained. The points are appended to `progress.validation`, and so
    are a part of every save. The metrics of the step receive `val_loss` and `val_token_accuracy`.
    """

    on_all_ranks = True

    def __init__(
        self,
        due: frozenset[int],
        measure: Callable[[int], Mapping[str, float]],
        progress: Progress,
        snapshot: Snapshot | None,
    ):
        self.due, self.measure, self.points, self.snapshot = due, measure, progress.validation, snapshot

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        """Collective."""
        if phase.steps not in self.due:
            return
        figures = self.measure(phase.steps)
        loss, accuracy = figures["loss"], figures["token_accuracy"]
        self.points.append({"step": phase.steps, "loss": loss, "token_accuracy": accuracy})
        if self.snapshot is not None and best_of(self.points) is self.points[-1]:
            self.snapshot.take()
        metrics |= {"val_loss": loss, "val_token_accuracy": accuracy}


def best_of(points: list[dict[str, float]]) -> dict[str, float]:
    """Returns the point with the lowest loss, the first one of equal ones."""
    return min(points, key=lambda point: point["loss"])


def outcome(progress: Progress, best: BestState) -> dict[str, Any] | None:
    """Returns what result.json says about the validation; None where nothing was measured.

    `points` holds every measurement, `best` the one with the lowest loss, and `checkpoint_step` the step after which
    the state that the phase leaves was reached.
    """
    if not progress.validation:
        return None
    lowest = best_of(progress.validation)
    left = lowest["step"] if best is BestState.hand_on else progress.steps
    return {"points": progress.validation, "best": lowest, "checkpoint_step": left}
