"""metrics.jsonl: a JSON line for each optimizer step."""

import json
from pathlib import Path
from typing import Any

from osftx.training.callbacks.base import Callback, PhaseStatus


class MetricsLog(Callback):
    """Appends the metrics of each step to the file `path`.

    A phase that begins at its first step begins the file anew. One that resumes goes on with the file, which the save
    has put back to its own last step.
    """

    def __init__(self, path: Path):
        self.path = path

    def on_phase_start(self, phase: PhaseStatus) -> None:
        if phase.steps == 0:
            self.path.write_text("", encoding="utf-8")

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(metrics) + "\n")
