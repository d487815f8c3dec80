"""What is looked at before a run: the model with its tokenizer, and every data file, on the shipped tiny model."""

import json
import shutil
from pathlib import Path

import pytest

from osftx.config import DataConfig, EvaluationSetConfig, ExperimentConfig, ModelConfig, PhaseConfig, TrainingConfig
from osftx.errors import ConfigurationError
from osftx.preflight import check

BASE = Path(__file__).parents[2] / "experiments" / "tiny" / "base"
GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a model and a data file."""
    shutil.copytree(BASE, tmp_path / "base")
    (tmp_path / "good.jsonl").write_text(json.dumps(GOOD) + "\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def experiment(train: str, evaluation: str, model: str = "~/base") -> ExperimentConfig:
    config = ExperimentConfig(name="study", model=ModelConfig(path=model))
    config.phases = {"one": PhaseConfig(data=DataConfig(path=train), **vars(TrainingConfig()))}
    config.evaluation.sets = {"held_out": EvaluationSetConfig(path=evaluation)}
    return config


def test_a_tilde_is_the_home_folder_in_every_path(home: Path) -> None:
    config = experiment("~/good.jsonl", "~/good.jsonl")
    checked = check(config, home / "prepared")
    assert checked.model_folder == home / "base"
    assert checked.data["one"].parent == home / "prepared"
    config.model.path, config.phases["one"].init_from = "elsewhere", "~/base"
    assert check(config, None).plan.phases[0].samples == 1


def problems(config: ExperimentConfig, data_folder: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        check(config, data_folder)
    return raised.value.problems


def test_a_problem_of_a_file_begins_with_the_setting_and_is_told_once(home: Path) -> None:
    bad, none = home / "bad.jsonl", home / "none.jsonl"
    bad.write_text(json.dumps(GOOD) + "\nno\n")
    first, second = problems(experiment(str(bad), str(none)))
    assert first.startswith(f"phases.one.data.path: {bad}:2: is not JSON")
    assert second.startswith(f"evaluation.sets.held_out.path: {none}: cannot be read")
    (once,) = problems(experiment(str(bad), str(bad)))
    assert once == first
    (home / "base" / "tokenizer.json").unlink()
    assert problems(experiment(str(bad), "~/good.jsonl"))[0].startswith("model.path: ~/base: holds no tokenizer.json")
