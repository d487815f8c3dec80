"""Calls the hooks of all callbacks of a phase."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from osftx.training.callbacks.base import Callback, PhaseStatus


class Callbacks:
    """Calls the hooks of several callbacks in their order, each with the status of the phase at that moment.

    Callbacks that are not `on_all_ranks` are called on rank 0 alone.
    """

    def __init__(self, status: Callable[[], PhaseStatus], callbacks: Iterable[Callback]):
        self._status = status
        rank = status().rank
        self._callbacks = [callback for callback in callbacks if callback.on_all_ranks or rank == 0]

    def phase_started(self) -> None:
        """Calls `on_phase_start` of every callback."""
        status = self._status()
        for callback in self._callbacks:
            callback.on_phase_start(status)

    def stepped(self, metrics: dict[str, Any]) -> None:
        """Calls `on_step` of every callback. A callback may add to `metrics` what later ones see."""
        status = self._status()
        for callback in self._callbacks:
            callback.on_step(status, metrics)

    def evaluated(self, step: int, evaluation: dict[str, dict[str, float]]) -> None:
        """Calls `on_evaluate` of every callback."""
        status = self._status()
        for callback in self._callbacks:
            callback.on_evaluate(status, step, evaluation)

    def saved(self, step: int, folder: Path) -> None:
        """Calls `on_save` of every callback."""
        status = self._status()
        for callback in self._callbacks:
            callback.on_save(status, step, folder)

    def phase_ended(self, result: dict[str, Any]) -> None:
        """Calls `on_phase_end` of every callback."""
        status = self._status()
        for callback in self._callbacks:
            callback.on_phase_end(status, result)
