"""The table at the end of a sweep, from what its jobs left."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from osftx.sweep import Job, Summary, read_jobs

RESULTS = {
    "objective": 0.8,
    "summary": {"average_accuracy": 0.8, "forgetting": 0.1, "backward_transfer": -0.1},
    "phases": [{"reused": True, "duration_s": 50.0}, {"reused": False, "duration_s": 20.5}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven jobs, the second of which failed."""
    for number in range(11):
        job = Job(number, ["+experiment=tiny", f"phases.skills.seed={number}"])
        if number == 1:
            job.failure = "phase 'skills' failed on rank 1: [out of memory]"
        else:
            job.take(RESULTS)
        job.save(tmp_path / str(number))
    return tmp_path


def test_jobs_are_read_by_number(folder: Path) -> None:
    jobs = read_jobs(folder)
    assert [job.number for job in jobs] == list(range(11))
    assert (jobs[0].trained, jobs[0].reused, jobs[0].training_s) == (1, 1, 20.5)


def test_the_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    Summary().on_multirun_end(config)
    shown = capsys.readouterr().out
    assert "10 phases trained, 10 reused, 1 of 11 jobs failed" in shown
    assert "failed: phase 'skills' failed on rank 1: [out of memory]" in shown
    assert "phases.skills.seed=10" in shown
    assert "+experiment=tiny" not in shown  # what all jobs share
    content = json.loads((folder / "sweep.json").read_text())
    assert (content["trained"], content["reused"], len(content["jobs"])) == (10, 10, 11)


def test_jobs_of_an_earlier_sweep_in_the_same_folder_do_not_count(folder: Path) -> None:
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    Summary().on_multirun_start(config)
    assert read_jobs(folder) == []
    Summary().on_multirun_end(config)
    assert not (folder / "sweep.json").exists()
