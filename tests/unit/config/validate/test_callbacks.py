"""What is said of callbacks before any rank starts."""

import sys
from pathlib import Path
from typing import Any

import pytest

from osftx.config.schema import DataConfig, ExperimentConfig, ModelConfig, PhaseConfig, TrainingConfig
from osftx.config.validate import problems


def found(*callbacks: Any) -> list[str]:
    config = ExperimentConfig(name="study", model=ModelConfig(path="base"), callbacks=list(callbacks))
    config.phases = {"first": PhaseConfig(data=DataConfig(path="a.jsonl"), **vars(TrainingConfig()))}
    return problems(config)


@pytest.fixture
def start_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the run starts. Its module must not be imported."""
    (tmp_path / "watching_modules.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_in_the_folder_of_the_start_is_found(start_folder: Path) -> None:
    assert found("watching_modules.Mine", {"path": "watching_modules.Other", "settings": {"a": 1}}) == []
    assert "watching_modules" not in sys.modules


def test_a_module_that_is_nowhere_is_named_with_the_remedy(start_folder: Path) -> None:
    (problem,) = found("watching_modules.Mine", "nowhere.to.be.Found")
    assert problem.startswith("callbacks[1]=nowhere.to.be.Found: there is no module nowhere.to.be in ")
    assert str(start_folder) in problem
    assert problem.endswith("add that folder to PYTHONPATH")


def test_every_entry_of_another_form_is_named() -> None:
    entries = ["Mine", 3, {"path": "a.Mine", "more": 1}]
    for place, (entry, problem) in enumerate(zip(entries, found(*entries), strict=True)):
        assert problem.startswith(f"callbacks[{place}]={entry}: ")
        assert problem.endswith("; correct it, or remove it")
