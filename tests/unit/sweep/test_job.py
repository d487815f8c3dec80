"""What a job of a sweep leaves behind, however it ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from osftx.errors import ConfigurationError, PrunedError, StoppedError, TrainingError
from osftx.results.job_record import Job, State
from osftx.results.sweep_reader import read_jobs
from osftx.sweep.job import run_job

RESULTS = {
    "objective": 0.8,
    "summary": {"average_accuracy": 0.8, "forgetting": 0.1},
    "phases": [{"reused": True, "duration_s": 50.0}, {"reused": False, "duration_s": 20.5}],
}
OVERRIDES = ["+experiment=tiny", "phases.skills.seed=1"]


def ran(folder: Path, ends_with: Any = RESULTS, resumed: bool = False, overrides: list[str] = OVERRIDES) -> list[Job]:
    """The records after a job number 3 whose run returns, or raises, `ends_with`."""

    def run() -> Any:
        if isinstance(ends_with, Exception):
            raise ends_with
        return ends_with

    run_job(Job(3, list(overrides)), folder / "3", run, resumed)
    return read_jobs(folder)


def test_a_job_that_is_done(tmp_path: Path) -> None:
    (job,) = ran(tmp_path)
    assert (job.state, job.exit_code, job.objective) == (State.done, 0, 0.8)
    assert (job.trained, job.reused, job.training_s) == (1, 1, 20.5)
    assert job.duration_s >= 0
    assert json.loads((tmp_path / "3" / "job.json").read_text())["state"] == "done"


@pytest.mark.parametrize(
    ("error", "code", "cause"),
    [
        (ConfigurationError(["data: no file"]), 2, "data: no file"),
        (TrainingError("rank 1: out of memory"), 1, "rank 1: out of memory"),
        (OSError(28, "No space left on device"), 1, "OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_failed_job_has_its_cause_and_what_it_would_have_ended_with(
    tmp_path: Path, error: Exception, code: int, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = ran(tmp_path, error)
    assert (job.state, job.exit_code, job.objective) == (State.failed, code, None)
    assert cause in str(job.failure)
    shown = capsys.readouterr().err
    assert f"job 3 failed: {job.failure}" in shown
    assert ("Traceback" in shown) == isinstance(error, OSError)  # of what nobody foresaw


def test_a_pruned_job_keeps_what_it_had(tmp_path: Path) -> None:
    (job,) = ran(tmp_path, PrunedError("worse than the median", RESULTS))
    assert (job.state, job.exit_code, job.failure, job.objective) == (State.pruned, 0, None, 0.8)


def test_a_signal_ends_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        ran(tmp_path, StoppedError("SIGTERM"))
    assert read_jobs(tmp_path) == []


def test_a_resumed_sweep_runs_only_what_has_not_ended_well(tmp_path: Path) -> None:
    other = RESULTS | {"objective": 0.1}
    ran(tmp_path, TrainingError("out of memory"))
    assert ran(tmp_path, RESULTS, resumed=True)[0].objective == 0.8
    assert ran(tmp_path, other, resumed=True)[0].objective == 0.8  # kept
    assert ran(tmp_path, other, resumed=True, overrides=["seed=2"])[0].objective == 0.1
    assert ran(tmp_path, RESULTS)[0].objective == 0.8  # not resumed
