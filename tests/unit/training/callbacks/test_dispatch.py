"""Which callbacks are called, with what, in which order."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from callback_status import status

from osftx.training.callbacks import Callback, PhaseStatus
from osftx.training.callbacks.dispatch import Callbacks


class Recorder(Callback):
    """Appends its name, the hook and what it was given to a list that several share."""

    def __init__(self, name: str, seen: list[Any]):
        self.name, self.seen = name, seen

    def on_phase_start(self, phase: PhaseStatus) -> None:
        self.seen.append((self.name, "start", phase.steps))

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        self.seen.append((self.name, "step", phase.steps, dict(metrics)))
        metrics[self.name] = 1

    def on_evaluate(self, phase: PhaseStatus, step: int, evaluation: dict[str, dict[str, float]]) -> None:
        self.seen.append((self.name, "evaluate", phase.steps, step, evaluation))

    def on_save(self, phase: PhaseStatus, step: int, folder: Path) -> None:
        self.seen.append((self.name, "save", phase.steps, step, folder))

    def on_phase_end(self, phase: PhaseStatus, result: dict[str, Any]) -> None:
        self.seen.append((self.name, "end", phase.steps, result))


class Everywhere(Recorder):
    on_all_ranks = True


def test_each_event_calls_every_callback_with_the_status_of_that_moment() -> None:
    seen: list[Any] = []
    steps = count(-1)  # it is asked for a first time to learn the rank
    callbacks = Callbacks(lambda: status(steps=next(steps)), [Recorder("a", seen), Recorder("b", seen)])
    callbacks.phase_started()
    callbacks.stepped({"loss": 2.0})
    callbacks.evaluated(7, {"set": {"loss": 1.0}})
    callbacks.saved(8, Path("save"))
    callbacks.phase_ended({"name": "study"})
    assert seen == [
        ("a", "start", 0),
        ("b", "start", 0),
        ("a", "step", 1, {"loss": 2.0}),
        ("b", "step", 1, {"loss": 2.0, "a": 1}),
        ("a", "evaluate", 2, 7, {"set": {"loss": 1.0}}),
        ("b", "evaluate", 2, 7, {"set": {"loss": 1.0}}),
        ("a", "save", 3, 8, Path("save")),
        ("b", "save", 3, 8, Path("save")),
        ("a", "end", 4, {"name": "study"}),
        ("b", "end", 4, {"name": "study"}),
    ]


@pytest.mark.parametrize(("rank", "called"), [(0, ["here", "everywhere"]), (1, ["everywhere"])])
def test_other_ranks_call_those_alone_that_ask_for_it(rank: int, called: list[str]) -> None:
    seen: list[Any] = []
    callbacks = Callbacks(lambda: status(rank=rank), [Recorder("here", seen), Everywhere("everywhere", seen)])
    callbacks.phase_started()
    assert [name for name, *_ in seen] == called


def test_a_callback_without_hooks_does_nothing() -> None:
    callbacks = Callbacks(status, [Callback()])
    callbacks.phase_started()
    callbacks.stepped({})
    callbacks.evaluated(0, {})
    callbacks.saved(1, Path("save"))
    callbacks.phase_ended({})
