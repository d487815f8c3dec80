"""What the evaluation sets score while a phase trains: the curve of what is kept against what is learned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from osftx.config.run_layout import CURVE
from osftx.distributed.collectives import agreed
from osftx.utils.files import write_text


class Curve:
    """Measures every so many optimizer steps, and writes a JSON line each time: `step` and `evaluation`.

    `measure` is given the steps that were trained. The lines are kept in `folder` until the phase is done, so that one
    that is broken off goes on with them.
    """

    def __init__(self, folder: Path, every_steps: int, total_steps: int, measure: Callable[[int], dict[str, Any]]):
        self.path, self.every_steps, self.total_steps = folder / CURVE, every_steps, total_steps
        self.measure = measure

    def begin(self, steps: int) -> None:
        """Forget what was measured after `steps`: training goes on from there. What is due there is measured now, if it
        was saved but not measured. Collective."""
        if dist.get_rank() == 0:
            kept = [point for point in self.points() if point["step"] <= steps]
            write_text(self.path, "".join(json.dumps(point) + "\n" for point in kept))
        if steps and not agreed(self._has, steps):
            self.after_step(steps)

    def _has(self, steps: int) -> bool:
        return any(point["step"] == steps for point in self.points())

    def after_step(self, steps: int) -> None:
        """Measure when it is due; the last step is measured anyway, at the end of the phase. Collective."""
        if steps % self.every_steps or steps == self.total_steps:
            return
        evaluation = self.measure(steps)
        if dist.get_rank() == 0:
            with self.path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"step": steps, "evaluation": evaluation}) + "\n")

    def points(self) -> list[dict[str, Any]]:
        """Everything measured so far, on rank 0. A line that was being written when the machine stopped is left out."""
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found
