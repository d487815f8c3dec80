"""The loss on samples that a phase does not train on, while it trains, and the state in which it was lowest."""

from collections.abc import Callable, Mapping
from typing import Any

from osftx.config.schema import BestState
from osftx.training.checkpoint import Progress
from osftx.training.snapshot import Snapshot


class Validation:
    """Measures after the steps that are `due`, and keeps a `snapshot`, if there is one, of the best state so far.

    `measure` is given the steps that were trained. What it finds is a part of the progress, and so of every save.
    """

    def __init__(
        self,
        due: frozenset[int],
        measure: Callable[[int], Mapping[str, float]],
        snapshot: Snapshot | None,
    ):
        self.due, self.measure, self.snapshot = due, measure, snapshot

    def after_step(self, progress: Progress) -> dict[str, float]:
        """Measure when it is due; what is then to stand in the step's line of metrics.jsonl. Collective."""
        if progress.steps not in self.due:
            return {}
        figures = self.measure(progress.steps)
        loss, accuracy = figures["loss"], figures["token_accuracy"]
        progress.validation.append({"step": progress.steps, "loss": loss, "token_accuracy": accuracy})
        if self.snapshot is not None and best_of(progress.validation) is progress.validation[-1]:
            self.snapshot.take()
        return {"val_loss": loss, "val_token_accuracy": accuracy}


def best_of(points: list[dict[str, float]]) -> dict[str, float]:
    """The measurement with the lowest loss, of equal ones the first."""
    return min(points, key=lambda point: point["loss"])


def outcome(progress: Progress, best: BestState) -> dict[str, Any] | None:
    """What result.json says of the validation: every measurement as `points`, the `best` of them, and after which step
    the state that the phase leaves was reached. None without a measurement."""
    if not progress.validation:
        return None
    lowest = best_of(progress.validation)
    left = lowest["step"] if best is BestState.hand_on else progress.steps
    return {"points": progress.validation, "best": lowest, "checkpoint_step": left}
