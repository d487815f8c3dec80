"""What the evaluation sets score while a phase trains: the curve of what is retained against what is learned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from osftx.config.run_layout import CURVE
from osftx.distributed.collectives import agreed
from osftx.training.callbacks.base import Callback, PhaseStatus
from osftx.utils.files import write_text

Evaluation = dict[str, dict[str, float]]
"""Figures by evaluation set."""


class RetentionCurve(Callback):
    """Measures the evaluation sets every `every_steps` optimizer steps, but for the last, which is measured anyway.

    `measure` is given the number of steps that were trained; `measured` is called with that number and what `measure`
    has returned. Each point is a JSON line with `step` and `evaluation` in a file of `folder`, which is kept until the
    phase is done, so that a phase that resumes has all points.
    """

    on_all_ranks = True

    def __init__(
        self,
        folder: Path,
        every_steps: int,
        measure: Callable[[int], Evaluation],
        measured: Callable[[int, Evaluation], None],
    ):
        self.path, self.every_steps = folder / CURVE, every_steps
        self.measure, self.measured = measure, measured

    def on_phase_start(self, phase: PhaseStatus) -> None:
        """Removes the points that lie after `phase.steps`, from where training goes on. Collective.

        Measures the point at `phase.steps` where it is due and missing: the step was saved but not measured.
        """
        if dist.get_rank() == 0:
            kept = [point for point in self.points() if point["step"] <= phase.steps]
            write_text(self.path, "".join(json.dumps(point) + "\n" for point in kept))
        if phase.steps and not agreed(self._has, phase.steps):
            self._measure_if_due(phase)

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        """Measures a point where one is due. Collective."""
        self._measure_if_due(phase)

    def points(self) -> list[dict[str, Any]]:
        """Returns all points so far, on rank 0. A line that was being written when the machine stopped is left out."""
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def _has(self, steps: int) -> bool:
        return any(point["step"] == steps for point in self.points())

    def _measure_if_due(self, phase: PhaseStatus) -> None:
        if phase.steps % self.every_steps or phase.steps == phase.total_steps:
            return
        evaluation = self.measure(phase.steps)
        if dist.get_rank() == 0:
            with self.path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"step": phase.steps, "evaluation": evaluation}) + "\n")
        self.measured(phase.steps, evaluation)
