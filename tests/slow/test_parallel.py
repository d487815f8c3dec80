"""Sweeps whose jobs run at the same time, in processes of a launcher, on CPU and with one store."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT

SHORT = ("phases.knowledge.num_epochs=1", "phases.skills.num_epochs=1", "~evaluation")
SAMPLES = 96
"""Of phase 2: one step."""
SUBMITIT = "hydra/launcher=submitit_local"


class Sweeps:
    """Sweeps of a short tiny experiment."""

    def __init__(self, folder: Path):
        self.folder = folder
        lines = (ROOT / "experiments/tiny/data/skills_train.jsonl").read_text().splitlines()
        (folder / "skills.jsonl").write_text("\n".join(lines[:SAMPLES]))

    def __call__(self, name: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        """Each with a store of its own."""
        fixed = [*SHORT, "distributed.nproc_per_node=1", f"phases.skills.data.path={self.folder / 'skills.jsonl'}"]
        fixed += [f"store_dir={self.folder / name}_store", f"hydra.sweep.dir={self.folder / name}"]
        command = [sys.executable, "-m", "osftx", "-m", "+experiment=tiny_two_phase", *fixed, *overrides]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    def content(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name / "sweep.json").read_text())

    def results(self, name: str, job: int) -> dict[str, Any]:
        return json.loads((self.folder / name / str(job) / "results.json").read_text())

    def output(self, name: str, job: int) -> str:
        return (self.folder / name / str(job) / "output.log").read_text()


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    return Sweeps(tmp_path_factory.mktemp("sweeps"))


@pytest.fixture(scope="module")
def with_joblib(sweeps: Sweeps) -> subprocess.CompletedProcess[str]:
    """Two jobs at once that share phase 1, and one with samples that are all too long."""
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    return sweeps("joblib", *launcher, "phases.skills.max_seq_len=32,33,5")


def test_jobs_at_once_train_a_phase_once(sweeps: Sweeps, with_joblib: subprocess.CompletedProcess[str]) -> None:
    """And the sweep with a failed job ends with its table, and with the job's exit code."""
    assert with_joblib.returncode == 2, with_joblib.stderr[-2000:]
    assert "Traceback" not in with_joblib.stdout + with_joblib.stderr
    content = sweeps.content("joblib")
    assert [job["number"] for job in content["jobs"]] == [0, 1, 2]
    assert [job["failure"] is not None for job in content["jobs"]] == [False, False, True]
    assert "longer than max_seq_len = 5" in content["jobs"][2]["failure"]
    assert (content["trained"], content["reused"]) == (3, 1)
    phases = [sweeps.results("joblib", job)["phases"] for job in (0, 1)]
    assert sorted(phase[0]["reused"] for phase in phases) == [False, True]
    assert phases[0][0]["fingerprint"] == phases[1][0]["fingerprint"]
    assert [phase[1]["reused"] for phase in phases] == [False, False]
    assert "3 phases trained, 1 reused, 1 of 3 jobs failed" in with_joblib.stdout


def test_each_job_writes_to_its_own_log(sweeps: Sweeps, with_joblib: subprocess.CompletedProcess[str]) -> None:
    shown = [sweeps.output("joblib", job) for job in (0, 1, 2)]
    for job, setting in ((0, "phases.skills.max_seq_len=32"), (1, "phases.skills.max_seq_len=33")):
        assert shown[job].count("Plan of tiny_two_phase") == 1
        assert "training skills" in shown[job]  # what the ranks print
        command = sweeps.results("joblib", job)["command"].split()
        assert command[1:4] == ["-m", "osftx", "+experiment=tiny_two_phase"]  # of the job alone
        assert setting in command
    assert "longer than max_seq_len = 5" in shown[2]
    assert sum("another run is training this phase" in log for log in shown) == 1
    lines = [line.split(" after")[0].split(",")[0] for line in with_joblib.stdout.splitlines() if line[:4] == "Job "]
    said = {f"Job {job} {what}" for job in (0, 1, 2) for what in ("starts", "failed" if job == 2 else "done")}
    assert set(lines) == said


def test_jobs_of_submitit(sweeps: Sweeps) -> None:
    """Two at once, that differ only in what does not decide the result."""
    done = sweeps("submitit", SUBMITIT, "~phases.skills", "distributed.rdzv_id=47,48")
    assert (done.returncode, done.stderr) == (0, "")
    content = sweeps.content("submitit")
    assert (content["trained"], content["reused"]) == (1, 1)
    for job in (0, 1):
        assert sweeps.output("submitit", job).count("Plan of tiny_two_phase") == 1
        assert f"distributed.rdzv_id={47 + job}" in sweeps.results("submitit", job)["command"]


def test_a_dry_run_checks_all_jobs_here_and_submits_none(sweeps: Sweeps) -> None:
    swept = ("dry_run=true", "phases.skills.max_seq_len=32,5")
    done = sweeps("dry", SUBMITIT, *swept)
    assert done.returncode == 2
    assert done.stdout.count("Plan of tiny_two_phase") == 1
    assert "osftx: job 1 failed" in done.stderr
    assert not (sweeps.folder / "dry" / ".submitit").exists()
    assert not list((sweeps.folder / "dry").rglob("output.log"))
