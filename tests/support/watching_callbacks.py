"""Callbacks as a user writes them: they write what they see into a file, or fail."""

import json
from pathlib import Path
from typing import Any

from osftx.training.callbacks import Callback, PhaseStatus


class Watch(Callback):
    """Appends a JSON line to `file` for each call."""

    def __init__(self, file: str):
        self.file = Path(file)

    def write(self, phase: PhaseStatus, hook: str, **more: Any) -> None:
        with self.file.open("a") as lines:
            lines.write(json.dumps({"hook": hook, "rank": phase.rank, "steps": phase.steps, **more}) + "\n")

    def on_phase_start(self, phase: PhaseStatus) -> None:
        known = {"name": phase.name, "index": phase.index, "method": phase.method, "total_steps": phase.total_steps}
        self.write(phase, "start", folder=str(phase.folder), learning_rate=phase.learning_rate, **known)

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        self.write(phase, "step", metrics=metrics, tokens=phase.tokens)

    def on_evaluate(self, phase: PhaseStatus, step: int, evaluation: dict[str, dict[str, float]]) -> None:
        self.write(phase, "evaluate", step=step, evaluation=evaluation)

    def on_save(self, phase: PhaseStatus, step: int, folder: Path) -> None:
        self.write(phase, "save", step=step, folder=str(folder), is_whole=(folder / "state.json").exists())

    def on_phase_end(self, phase: PhaseStatus, result: dict[str, Any]) -> None:
        self.write(phase, "end", result=result)


class WatchEverywhere(Watch):
    on_all_ranks = True


class Fail(Callback):
    """Raises ValueError in the second step."""

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        if phase.steps == 2:
            raise ValueError("no more")


class FailQuietly(Fail):
    failure_ends_training = False


def read(file: Path, rank: int = 0) -> list[dict[str, Any]]:
    """The calls on one rank."""
    calls = [json.loads(line) for line in file.read_text().splitlines()]
    return [call for call in calls if call["rank"] == rank]
