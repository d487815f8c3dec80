"""The training of a phase that is set up: where it starts, what observes it, in which order."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import METRICS
from osftx.config.schema import BestState
from osftx.config.steps import validation_steps
from osftx.training.callbacks.base import Callback
from osftx.training.callbacks.dispatch import Callbacks
from osftx.training.callbacks.metrics_log import MetricsLog
from osftx.training.callbacks.progress_bar import ProgressBar
from osftx.training.callbacks.retention_curve import RetentionCurve
from osftx.training.callbacks.saving import Saving
from osftx.training.callbacks.validation import Validation
from osftx.training.checkpoint import Saves
from osftx.training.progress import Progress
from osftx.training.snapshot import Snapshot
from osftx.training.stop_signal import StopRequest
from osftx.worker.evaluate_phase import Evaluation, measure_held_out
from osftx.worker.setup_phase import ReadyPhase, status


class TrainingRun:
    """Trains a phase to its end, from its newest save where it has one.

    `user_callbacks` are the user's, `measure` measures the evaluation sets after a number of steps, and `begun` is the
    time at which this process began the phase, as `time.monotonic` tells it. The constructor restores the newest save;
    it is collective.
    """

    def __init__(
        self,
        spec: PhaseSpec,
        ready: ReadyPhase,
        device: torch.device,
        user_callbacks: Sequence[Callback],
        measure: Callable[[int], Evaluation],
        begun: float,
    ):
        self.spec, self.ready, self.device = spec, ready, device
        self.user_callbacks = user_callbacks
        self.best = self._best_state()
        """A copy of the state with the lowest validation loss, where one is kept."""
        self.saves = self._saves(begun)
        if self.saves is not None:
            ready.trainer.progress = self.saves.restore()
        self.status = partial(status, spec, ready)
        self.users = Callbacks(self.status, user_callbacks)
        self.curve = self._curve(measure)

    @property
    def done(self) -> Progress:
        return self.ready.trainer.progress

    def run(self, evaluation_before: Evaluation | None) -> None:
        """Takes all steps that are left. The user's callbacks receive `evaluation_before` the first one. Collective.

        Raises FloatingPointError if the training diverges, Stopped after a signal where the phase could be saved, and
        CallbackError where a user's callback fails.
        """
        if self.done.steps and dist.get_rank() == 0:
            print(f"going on after step {self.done.steps} of {self.status().total_steps}", flush=True)
        scheduler, resume = self.ready.scheduler, self.spec.resume
        bar = ProgressBar(f"training {self.spec.name}", self.done)
        stop = StopRequest(resume.checkpointing.grace_s) if resume is not None else None
        callbacks = Callbacks(self.status, self._observers(bar, stop)) if scheduler is not None else self.users
        callbacks.phase_started()
        if evaluation_before and not self.done.steps:
            self.users.evaluated(0, evaluation_before)
        if scheduler is not None:
            with bar, stop or nullcontext():
                self.ready.trainer.run(self.ready.engine, scheduler, callbacks)

    def _observers(self, bar: ProgressBar, stop: StopRequest | None) -> list[Callback]:
        """Returns all callbacks in the order in which each step calls them."""
        in_order = (
            self._validation(),  # its figures are a part of the step's metrics and of the save
            MetricsLog(self._metrics_path),  # a save holds a copy of it
            bar,
            *self.user_callbacks,  # before the save, so that every step in a save has been reported
            self._saving(stop),
            self.curve,  # after a signal there may be no time to measure: a phase that resumes does it then
        )
        return [callback for callback in in_order if callback is not None]

    @property
    def _metrics_path(self) -> Path:
        return Path(self.spec.folder) / METRICS

    def _best_state(self) -> Snapshot | None:
        validation = self.spec.validation
        if self.ready.scheduler is None or validation is None or validation.settings.best is BestState.ignore:
            return None
        return Snapshot(self.ready.engine, self.ready.restored)

    def _saves(self, begun: float) -> Saves | None:
        ready, resume = self.ready, self.spec.resume
        if ready.scheduler is None or resume is None:
            return None
        return Saves(
            Path(resume.folder),
            resume.checkpointing.keep,
            ready.engine,
            ready.scheduler,
            self._metrics_path,
            begun,
            ready.restored,
            self.best,
        )

    def _saving(self, stop: StopRequest | None) -> Saving | None:
        resume = self.spec.resume
        if self.saves is None or stop is None or resume is None:
            return None
        return Saving(self.saves, resume.checkpointing, self.done, stop, self.users.saved)

    def _curve(self, measure: Callable[[int], Evaluation]) -> RetentionCurve | None:
        spec = self.spec
        if spec.evaluate_every_steps is None:
            return None
        folder = Path(spec.resume.folder if spec.resume is not None else spec.folder)
        return RetentionCurve(folder, spec.evaluate_every_steps, measure, self.users.evaluated)

    def _validation(self) -> Validation | None:
        spec, opened = self.spec, self.ready.opened
        if spec.validation is None or opened.held_out is None:
            return None
        due = validation_steps(spec.validation.settings, spec.training, len(opened.samples))
        room = spec.training.max_tokens_per_gpu
        measure = partial(measure_held_out, self.ready.engine, opened.held_out, room, self.device)
        return Validation(due, measure, self.done, self.best)
