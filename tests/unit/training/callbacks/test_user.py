"""A user's callbacks: how they are loaded, what is said of those that cannot be, and what their failures do."""

import sys
from pathlib import Path
from typing import Any

import pytest
from callback_status import status

from osftx.config.schema import CallbackConfig
from osftx.training.callbacks import Callback, PhaseStatus
from osftx.training.callbacks.user import CallbackError, UserCallback, load_callbacks

MODULE = """
from osftx.training.callbacks import Callback

class Mine(Callback):
    def __init__(self, limit=3):
        self.limit = limit

class Everywhere(Mine):
    on_all_ranks = True

class Other:
    pass

def function():
    pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the folder where the run starts; Python forgets it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    file = tmp_path / "users_module.py"
    file.write_text(MODULE)
    (tmp_path / "broken_module.py").write_text("import not_installed_anywhere\n")
    return file


def entry(name: str, **settings: Any) -> CallbackConfig:
    return CallbackConfig(f"users_module.{name}", settings)


def test_they_are_constructed_with_their_settings_where_they_are_called(module: Path) -> None:
    entries = [entry("Mine"), entry("Everywhere", limit=5)]
    first, second = load_callbacks(entries, rank=0)
    assert [(one.path, one.callback.limit) for one in (first, second)] == [  # type: ignore[attr-defined]
        ("users_module.Mine", 3),
        ("users_module.Everywhere", 5),
    ]
    assert (first.on_all_ranks, second.on_all_ranks) == (False, True)
    assert [callback.path for callback in load_callbacks(entries, rank=1)] == ["users_module.Everywhere"]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (
            CallbackConfig("no_such_module.Mine"),
            "cannot be imported (ModuleNotFoundError: ",
        ),
        (CallbackConfig("broken_module.Mine"), "(ModuleNotFoundError: No module named 'not_installed_anywhere')"),
        (entry("Missing"), "there is no Missing in FILE"),
        (entry("Other"), "is not a class that derives from osftx.training.callbacks.Callback"),
        (entry("function"), "is not a class that derives from osftx.training.callbacks.Callback"),
        (entry("Mine", limits=3), "cannot be constructed with settings={'limits': 3} (TypeError: "),
    ],
    ids=lambda given: given.path if isinstance(given, CallbackConfig) else "",
)
def test_what_cannot_be_loaded_is_named_with_its_cause(module: Path, config: CallbackConfig, problem: str) -> None:
    with pytest.raises(CallbackError) as refused:
        load_callbacks([config], rank=0)
    assert str(refused.value).startswith(f"callback {config.path}: ")
    assert problem.replace("FILE", str(module)) in str(refused.value)


class Fails(Callback):
    """Fails in every step, and counts them."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        self.steps += 1
        raise KeyError("accuracy")


class FailsQuietly(Fails):
    failure_ends_training = False


def test_a_failure_names_callback_hook_and_phase() -> None:
    with pytest.raises(CallbackError) as raised:
        UserCallback("m.Fails", Fails()).on_step(status(), {})
    assert str(raised.value) == "callback m.Fails failed in on_step of phase 'study' (KeyError: 'accuracy')"
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_failure_that_does_not_end_the_training_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    callback = FailsQuietly()
    user = UserCallback("m.FailsQuietly", callback)
    for _ in range(3):
        user.on_step(status(), {})
    user.on_phase_end(status(), {})
    assert callback.steps == 1
    (warning,) = capsys.readouterr().out.splitlines()
    assert warning.startswith(
        "warning: callback m.FailsQuietly failed in on_step of phase 'study' (KeyError: 'accuracy')"
    )


class Spoils(Callback):
    """Changes everything that it is given."""

    def on_step(self, phase: PhaseStatus, metrics: dict[str, Any]) -> None:
        metrics.clear()

    def on_evaluate(self, phase: PhaseStatus, step: int, evaluation: dict[str, dict[str, float]]) -> None:
        evaluation["set"]["loss"] = 0.0

    def on_phase_end(self, phase: PhaseStatus, result: dict[str, Any]) -> None:
        result["targets"].clear()


def test_what_a_callback_changes_is_its_own_copy() -> None:
    user = UserCallback("m.Spoils", Spoils())
    metrics, evaluation, result = {"loss": 1.0}, {"set": {"loss": 1.0}}, {"targets": [1]}
    user.on_step(status(), metrics)
    user.on_evaluate(status(), 0, evaluation)
    user.on_phase_end(status(), result)
    assert (metrics, evaluation, result) == ({"loss": 1.0}, {"set": {"loss": 1.0}}, {"targets": [1]})
