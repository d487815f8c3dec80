"""Decides when a phase is saved while it trains."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from osftx.config.schema import CheckpointingConfig
from osftx.distributed.accelerator import current_device
from osftx.training.callbacks.base import Callback, PhaseStatus
from osftx.training.checkpoint import Saves
from osftx.training.progress import Progress
from osftx.training.stop_signal import Stopped, StopRequest


class Saving(Callback):
    """Saves the phase by the clock and by steps, as `settings` say, after the last step, and when a stop is requested.

    `saved` is called with the steps and the folder of each save. Raises Stopped after the save that a stop request has
    caused.
    """

    on_all_ranks = True

    def __init__(
        self,
        saves: Saves,
        settings: CheckpointingConfig,
        progress: Progress,
        stop: StopRequest,
        saved: Callable[[int, Path], None],
    ):
        self.saves, self.settings, self.progress, self.stop, self.saved = saves, settings, progress, stop, saved
        self.saved_at = time.monotonic()

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        """Collective: all ranks save where one of them has a reason to."""
        reasons = torch.tensor([self.stop.made, self._due(phase.steps)], dtype=torch.int32, device=current_device())
        dist.all_reduce(reasons, dist.ReduceOp.MAX)
        stopped, due = reasons.tolist()
        if stopped or due or phase.steps == phase.total_steps:
            self._save()
        if stopped:
            raise Stopped

    def _save(self) -> None:
        folder = self.saves.save(self.progress)
        self.saved_at = time.monotonic()
        if folder is not None:
            self.saved(self.progress.steps, folder)

    def _due(self, steps: int) -> bool:
        minutes, every_steps = self.settings.every_minutes, self.settings.every_steps
        by_clock = minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        return by_clock or (every_steps is not None and steps % every_steps == 0)
