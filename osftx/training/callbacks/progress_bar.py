"""The bar that shows the steps of a phase."""

from typing import Any

from tqdm import tqdm

from osftx.training.callbacks.base import Callback, PhaseStatus
from osftx.training.progress import Progress
from osftx.utils.progress import progress


class ProgressBar(Callback):
    """Shows steps, loss, learning rate and the last validation loss. As a context manager it closes the bar."""

    def __init__(self, title: str, done: Progress):
        self.title, self.done = title, done
        self.bar: tqdm | None = None

    def on_phase_start(self, phase: PhaseStatus) -> None:
        self.bar = progress(self.title, phase.total_steps, "steps", phase.steps)

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        assert self.bar is not None
        shown = {"loss": f"{metrics['loss']:.4f}", "lr": f"{metrics['lr']:.2e}"}
        if self.done.validation:
            shown["val_loss"] = f"{self.done.validation[-1]['loss']:.4f}"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
