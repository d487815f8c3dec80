"""The folder of a sweep before its first job and after its last one, from what the jobs left there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from osftx.launch.cluster import Cluster
from osftx.results.job_record import Job, State
from osftx.results.sweep_reader import read_jobs
from osftx.sweep.running import RunningSweep

pytestmark = pytest.mark.process

TASK = ["+experiment=tiny", "phases.skills.seed=range(0,11)"]
RESULTS = {
    "objective": 0.8,
    "summary": {"average_accuracy": 0.8, "learning_accuracy": 0.9, "forgetting": 0.1, "backward_transfer": -0.1},
    "phases": [{"reused": True, "duration_s": 50.0}, {"reused": False, "duration_s": 20.5}],
}


def composed(folder: Path | None, resume: Path | None = None, task: list[str] = TASK, **changes: Any) -> DictConfig:
    """As Hydra composes it; without a `folder` it follows from the configuration's own files."""
    overrides = {"hydra": [f"hydra.sweep.dir={folder}"] if folder else [], "task": task}
    content: dict[str, Any] = {
        "objective": "summary.average_accuracy",
        "dry_run": False,
        "output_dir": None,
        "distributed": {"node_rank": 0},
        "sweep": {"resume": None if resume is None else str(resume)},
        "training": {"learning_rate": 1e-5},
        "hydra": {
            "sweep": {"dir": str(folder or "multirun")},
            "overrides": overrides,
            "sweeper": {"_target_": "basic", "params": None},
        },
    }
    return OmegaConf.create(content | changes)


class Sweeps:
    """The sweeps of a test; what they hold ends with it."""

    def __init__(self) -> None:
        self._begun: list[RunningSweep] = []

    def begin(self, config: DictConfig) -> None:
        sweep = RunningSweep(config)
        sweep.begin(Cluster())
        self._begun.append(sweep)

    def end(self, config: DictConfig | None = None) -> int:
        """The exit code of the last sweep that has begun, or of one with this configuration."""
        sweep = self._begun[-1] if config is None else RunningSweep(config)
        try:
            sweep.end()
        except SystemExit as exit:
            return int(str(exit.code))
        return 0

    def close(self) -> None:
        for sweep in self._begun:
            sweep.close()


@pytest.fixture
def sweeps() -> Iterator[Sweeps]:
    sweeps = Sweeps()
    yield sweeps
    sweeps.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven jobs of a sweep, the second of which failed."""
    for number in range(11):
        job = Job(number, ["+experiment=tiny", f"phases.skills.seed={number}"])
        if number == 1:
            job.fail("phase 'skills' failed on rank 1: [out of memory]", exit_code=1)
        else:
            job.take(RESULTS | {"objective": 0.8 - number / 100})
        job.save(tmp_path / str(number))
    OmegaConf.save(composed(tmp_path), tmp_path / "multirun.yaml")
    return tmp_path


def test_jobs_are_read_by_number(folder: Path) -> None:
    assert [job.number for job in read_jobs(folder)] == list(range(11))


def test_the_end_of_a_sweep(sweeps: Sweeps, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweeps.end(composed(folder)) == 1
    shown = capsys.readouterr().out
    assert "10 phases trained, 10 reused, 1 of 11 jobs failed" in shown
    assert "failed: phase 'skills' failed on rank 1: [out of memory]" in shown
    assert "phases.skills.seed=10" in shown
    assert "* 0 " in shown  # the best
    assert "+experiment=tiny" not in shown  # what all jobs share
    content = json.loads((folder / "sweep.json").read_text())
    assert (content["trained"], content["reused"], len(content["jobs"])) == (10, 10, 11)
    assert (content["done"], content["failed"], content["pruned"]) == (10, 1, 0)
    assert (content["objectives"], content["directions"]) == (["summary.average_accuracy"], ["maximize"])
    assert content["jobs"][10]["parameters"] == {"phases.skills.seed": "10"}
    assert [job["number"] for job in content["jobs"] if job["best"]] == [0]
    assert content["importance"] == {"summary.average_accuracy": {"phases.skills.seed": pytest.approx(1.0)}}
    assert (folder / "sweep.html").is_file()


def test_the_exit_code_is_that_of_the_records(sweeps: Sweeps, folder: Path) -> None:
    job = read_jobs(folder)[2]
    job.fail("no data", exit_code=2)
    job.save(folder / "2")
    assert sweeps.end(composed(folder)) == 1  # training has failed somewhere
    (folder / "1" / "job.json").unlink()
    assert sweeps.end(composed(folder)) == 2
    (folder / "2" / "job.json").unlink()
    assert sweeps.end(composed(folder)) == 0


def test_a_pareto_front(sweeps: Sweeps, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = ["summary.learning_accuracy", "summary.forgetting"]
    for job in read_jobs(folder):
        job.objective = [0.9 - job.number / 100, 0.5 if job.number == 10 else 0.3 - job.number / 100]
        job.save(folder / str(job.number))
    sweeps.end(composed(folder, objective=several))
    content = json.loads((folder / "sweep.json").read_text())
    assert content["directions"] == ["maximize", "minimize"]
    assert [job["number"] for job in content["jobs"] if job["best"]] == [0, *range(2, 10)]
    assert "on the Pareto front" in capsys.readouterr().out
    assert (folder / "figures" / "front.png").is_file()


def test_a_report_that_cannot_be_written_costs_no_table(
    sweeps: Sweeps, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("osftx.report.write_sweep_report", fail)
    sweeps.end(composed(folder))
    shown = capsys.readouterr().out
    assert "the report could not be written (RuntimeError: no font)" in shown
    assert "phases.skills.seed=10" in shown
    assert (folder / "sweep.json").is_file()


def test_jobs_of_an_earlier_sweep_in_the_same_folder_do_not_count(sweeps: Sweeps, folder: Path) -> None:
    sweeps.end(composed(folder))
    sweeps.begin(composed(folder))
    assert read_jobs(folder) == []
    assert sweeps.end(composed(folder)) == 0
    assert not (folder / "sweep.json").exists()
    assert not (folder / "sweep.html").exists()


def test_a_resumed_sweep_goes_on_in_its_folder(sweeps: Sweeps, folder: Path) -> None:
    config = composed(None, resume=folder)
    config.hydra.overrides.task.append(f"sweep.resume={folder}")
    OmegaConf.set_readonly(config.hydra, True)  # as Hydra does
    sweeps.begin(config)
    assert config.hydra.sweep.dir == str(folder)
    assert config.hydra.overrides.hydra == [f"hydra.sweep.dir='{folder}'"]  # the jobs are composed with it
    assert len(read_jobs(folder)) == 10
    assert all(job.state is State.done for job in read_jobs(folder))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": ["+experiment=tiny"]}, "was made with other overrides (+experiment=tiny phases.skills.seed="),
        ({"training": {"learning_rate": 2e-5}}, "was made with other settings of training; give the same ones"),
    ],
)
def test_a_sweep_with_other_settings_is_not_resumed(
    sweeps: Sweeps, folder: Path, changes: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        sweeps.begin(composed(None, resume=folder, **changes))
    assert f"sweep.resume={folder}: {says}" in capsys.readouterr().err
    assert len(read_jobs(folder)) == 11


def test_only_a_sweep_can_be_resumed_and_in_its_own_folder(
    sweeps: Sweeps, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        sweeps.begin(composed(None, resume=tmp_path / "nothing"))
    with pytest.raises(SystemExit, match="2"):
        sweeps.begin(composed(folder, resume=folder))
    holds_none, twice = capsys.readouterr().err.splitlines()
    assert "holds no sweep" in holds_none
    assert "leave hydra.sweep.dir out" in twice


def test_a_dry_run_leaves_nothing_and_touches_no_sweep(sweeps: Sweeps, folder: Path) -> None:
    config = composed(folder, dry_run=True)
    sweeps.begin(config)
    dry = Path(config.hydra.sweep.dir)
    assert dry != folder
    assert len(read_jobs(folder)) == 11
    job = Job(0, [])
    job.fail("no data", exit_code=2)
    job.save(dry / "0")
    assert sweeps.end() == 2
    assert not (dry / "sweep.json").exists()
    assert not dry.exists()


def refusal(sweeps: Sweeps, config: DictConfig, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        sweeps.begin(config)
    assert left.value.code == 2
    return capsys.readouterr().err


def test_a_folder_of_a_running_sweep_is_refused(
    sweeps: Sweeps, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeps.begin(composed(folder))
    for resume in (None, folder):
        OmegaConf.save(composed(folder), folder / "multirun.yaml")
        said = refusal(sweeps, composed(None if resume else folder, resume), capsys)
        assert "another sweep is running there" in said
    sweeps.end()
    sweeps.begin(composed(folder))


def test_what_cannot_be_a_sweep_is_refused(sweeps: Sweeps, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the jobs of a sweep cannot share it" in refusal(sweeps, composed(folder, output_dir="run"), capsys)
    config = composed(folder)
    config.hydra.launcher = {"n_jobs": 0}
    assert "hydra.launcher.n_jobs=0: joblib runs 1 or more" in refusal(sweeps, config, capsys)
    (folder / "file").write_text("")
    assert "cannot be written (File exists)" in refusal(sweeps, composed(folder / "file"), capsys)
    assert "cannot be written (Not a directory)" in refusal(sweeps, composed(folder / "file" / "below"), capsys)
    (folder / "multirun.yaml").write_text("[")
    assert "multirun.yaml cannot be read" in refusal(sweeps, composed(None, folder), capsys)


def test_a_record_that_cannot_be_read_is_none(folder: Path) -> None:
    before = len(read_jobs(folder))
    (folder / "0" / "job.json").write_text("{")
    (folder / "2" / "job.json").write_text("[]")
    (folder / "3" / "job.json").write_text('{"state": "done"}')
    assert len(read_jobs(folder)) == before - 3


def test_nothing_of_anybody_is_removed_or_mixed_with(
    sweeps: Sweeps, folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path_factory.mktemp("mine")
    (mine / "thesis").mkdir()
    (mine / "thesis" / "job.json").write_text("{}")
    (mine / "sweep.html").write_text("mine")
    for dry in (False, True):
        assert "holds sweep.html and no sweep" in refusal(sweeps, composed(mine, dry_run=dry), capsys)
    assert sorted(path.name for path in mine.rglob("*")) == ["job.json", "sweep.html", "thesis"]
    (folder / "notes").mkdir()
    (folder / "notes" / "job.json").write_text((folder / "0" / "job.json").read_text())  # no folder of a job
    (folder / "3" / "job.json").write_text('{"mine": 1}')
    sweeps.begin(composed(folder))  # over an earlier sweep
    assert sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("job.json")) == ["3", "notes"]


def test_a_sweep_takes_neither_a_folder_of_the_user_nor_that_of_another_sweep(
    sweeps: Sweeps, folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path_factory.mktemp("mine")
    for name in ("notes.txt", "sweep.html", "sweep.json"):
        (mine / name).write_text('{"my": "file"}')
    assert "holds notes.txt and no sweep" in refusal(sweeps, composed(mine), capsys)
    (mine / "multirun.yaml").write_text("my: file")
    assert "its multirun.yaml cannot be read" in refusal(sweeps, composed(mine), capsys)
    assert (mine / "sweep.json").read_text() == '{"my": "file"}'
    for other in (composed(folder, task=["seed=1,2"]), composed(folder, training={"learning_rate": 3e-5})):
        assert "holds a sweep already, which was made with other" in refusal(sweeps, other, capsys)
    assert len(read_jobs(folder)) == 11


@pytest.mark.parametrize(
    "content",
    [
        "hydra: {overrides: {task: [[- 1]]}, sweeper: {}}",
        "hydra: {overrides: {task: [1, 2]}, sweeper: {}}",
        "hydra: {overrides: {task: []}, sweeper: 3}",
        "hydra: null",
        'zzz: "${"\nhydra: {overrides: {task: []}, sweeper: {}}',
        "- 1",
        "x: .nan",
        "",
    ],
)
def test_damaged_settings_of_a_sweep_are_a_refusal(
    sweeps: Sweeps, folder: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "multirun.yaml").write_text(content)
    for config in (composed(folder), composed(None, resume=folder)):
        said = refusal(sweeps, config, capsys)
        assert str(folder) in said
        assert len(said.splitlines()) == 1
    assert len(read_jobs(folder)) == 11


def test_a_home_folder_is_found_or_refused(
    sweeps: Sweeps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = composed(Path("~/sweep"))
    sweeps.begin(config)
    assert config.hydra.sweep.dir == str(tmp_path / "sweep")  # else Hydra would take a folder that is called ~
    for config in (composed(Path("~nosuchuser/x")), composed(None, resume=Path("~nosuchuser/x"))):
        assert "~nosuchuser/x: there is no user nosuchuser" in refusal(sweeps, config, capsys)
