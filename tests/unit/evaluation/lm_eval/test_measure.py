"""What is known is not measured again; a failure keeps what was done before it."""

import json
from pathlib import Path

import pytest

from osftx.config.schema import DistributedConfig, ExperimentConfig, Precision
from osftx.errors import TrainingError
from osftx.evaluation.lm_eval import measure as module
from osftx.evaluation.lm_eval.measure import Benchmarks
from osftx.evaluation.lm_eval.spec import BenchmarkSpec
from osftx.evaluation.lm_eval.tasks import Task
from osftx.store.entries import PhaseStore
from osftx.utils.files import write_json


class Runs:
    """Stands for the process: scores each task by the length of its name."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.fails_at: str | None = None

    def __call__(self, spec: BenchmarkSpec, distributed: DistributedConfig, timeout_s: int, state: str) -> None:
        self.asked.append(spec.tasks)
        spec.save()
        for task in spec.tasks:
            if task == self.fails_at:
                raise TrainingError("broken")
            details = {"versions": {task: 1}}
            write_json(spec.score_file(task), {"metric": "acc", "value": len(task) / 10, "details": details})


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr(module, "run_benchmarks", runs)
    return runs


def benchmarks(tmp_path: Path, *names: str, config: ExperimentConfig | None = None) -> Benchmarks:
    tasks = {name: Task(name, {"yaml": tmp_path / f"{name}.yaml"}, built_in=False) for name in names}
    for name, task in tasks.items():
        if not task.files["yaml"].exists():
            task.files["yaml"].write_text(name)
    return Benchmarks(config or ExperimentConfig(name="x"), tasks, PhaseStore(tmp_path / "store"))


def test_each_task_is_measured_once_for_a_model(tmp_path: Path, runs: Runs) -> None:
    first = benchmarks(tmp_path, "one", "three")
    first.measure("base", tmp_path, "m0", tmp_path / "a" / "benchmarks_before")
    first.measure("facts", tmp_path, "m1", tmp_path / "a" / "benchmarks")
    assert first.table() == {
        "tasks": ["one", "three"],
        "metrics": {"one": "acc", "three": "acc"},
        "values": [[0.3, 0.5], [0.3, 0.5]],
    }
    more = benchmarks(tmp_path, "one", "two", "three")
    more.measure("base", tmp_path, "m0", tmp_path / "b" / "benchmarks_before")
    (tmp_path / "one.yaml").write_text("changed")
    more.measure("facts", tmp_path, "m1", tmp_path / "b" / "benchmarks")
    assert runs.asked == [["one", "three"], ["one", "three"], ["two"], ["one", "two"]]
    kept = json.loads((tmp_path / "b" / "benchmarks.json").read_text())
    assert kept["tasks"]["two"] == {"metric": "acc", "versions": {"two": 1}}


@pytest.mark.parametrize("key", ["num_fewshot", "limit", "dtype", "apply_chat_template", "batch_size"])
def test_settings_that_decide_a_score(tmp_path: Path, runs: Runs, key: str) -> None:
    benchmarks(tmp_path, "one").measure("base", tmp_path, "m", tmp_path / "a")
    config = ExperimentConfig(name="x")
    if key == "dtype":
        config.training.train_dtype = Precision.float32
    else:
        setattr(config.evaluation.lm_eval, key, 3)
    benchmarks(tmp_path, "one", config=config).measure("base", tmp_path, "m", tmp_path / "b")
    assert len(runs.asked) == (1 if key == "batch_size" else 2)


def test_a_failure_keeps_what_was_done(tmp_path: Path, runs: Runs) -> None:
    runs.fails_at = "two"
    with pytest.raises(TrainingError):
        benchmarks(tmp_path, "one", "two").measure("base", tmp_path, "m", tmp_path / "a")
    runs.fails_at = None
    benchmarks(tmp_path, "one", "two").measure("base", tmp_path, "m", tmp_path / "b")
    assert runs.asked == [["one", "two"], ["two"]]


def test_without_tasks_nothing_is_done(tmp_path: Path, runs: Runs) -> None:
    none = benchmarks(tmp_path)
    none.measure("base", tmp_path, "m", tmp_path / "a")
    assert none.table() is None
    assert runs.asked == []
    assert list(tmp_path.iterdir()) == []
