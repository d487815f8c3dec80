"""A user's callbacks: loads the classes that the configuration names, and reports what fails in them."""

import sys
from collections.abc import Iterable
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

from osftx.config.schema import CallbackConfig
from osftx.training.callbacks.base import Callback, PhaseStatus
from osftx.utils.import_path import search_path


class CallbackError(Exception):
    """A user's callback cannot be used, or has failed. The message names the callback."""


class UserCallback(Callback):
    """Calls a user's `callback`, which the configuration calls `path`, with copies of what the hooks receive.

    An exception in a hook raises CallbackError. Where the callback's `failure_ends_training` is False, it prints a
    warning instead and calls the callback no more.
    """

    def __init__(self, path: str, callback: Callback):
        self.path, self.callback = path, callback
        self.on_all_ranks = callback.on_all_ranks
        self.is_off = False

    def on_phase_start(self, phase: PhaseStatus) -> None:
        self._call("on_phase_start", phase)

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        self._call("on_step", phase, metrics)

    def on_evaluate(self, phase: PhaseStatus, step: int, evaluation: dict[str, dict[str, float]]) -> None:
        self._call("on_evaluate", phase, step, evaluation)

    def on_save(self, phase: PhaseStatus, step: int, folder: Path) -> None:
        self._call("on_save", phase, step, folder)

    def on_phase_end(self, phase: PhaseStatus, result: dict[str, Any]) -> None:
        self._call("on_phase_end", phase, result)

    def _call(self, hook: str, phase: PhaseStatus, *arguments: object) -> None:
        if self.is_off:
            return
        try:
            getattr(self.callback, hook)(phase, *deepcopy(arguments))
        except Exception as error:
            failure = f"callback {self.path} failed in {hook} of phase {phase.name!r} ({_said(error)})"
            if self.callback.failure_ends_training:
                raise CallbackError(failure) from error
            self.is_off = True
            print(f"warning: {failure}; it is not called again, and the training goes on", flush=True)


def load_callbacks(entries: Iterable[CallbackConfig], rank: int) -> list[UserCallback]:
    """Returns the callbacks that are called on `rank`, constructed with their settings.

    Modules are found as Python finds them from the folder in which the run was started. Raises CallbackError where a
    class cannot be imported, is not a Callback, or refuses its settings.
    """
    loaded = []
    for entry in entries:
        kind = _load_class(entry.path)
        if kind.on_all_ranks or rank == 0:
            loaded.append(UserCallback(entry.path, _construct(kind, entry)))
    return loaded


def _load_class(path: str) -> type[Callback]:
    module_name, _, name = path.rpartition(".")
    sys.path[:] = search_path()
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever the user's module does
        raise CallbackError(f"callback {path}: its module cannot be imported ({_said(error)})") from error
    if not hasattr(module, name):
        raise CallbackError(f"callback {path}: there is no {name} in {module.__file__}")
    kind = getattr(module, name)
    if not (isinstance(kind, type) and issubclass(kind, Callback)):
        raise CallbackError(
            f"callback {path}: is not a class that derives from {Callback.__module__.removesuffix('.base')}.Callback"
        )
    return kind


def _construct(kind: type[Callback], entry: CallbackConfig) -> Callback:
    try:
        return kind(**entry.settings)
    except Exception as error:
        raise CallbackError(
            f"callback {entry.path}: cannot be constructed with settings={entry.settings} ({_said(error)})"
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
