"""A search on real runs: what failed is recorded, what is done is not run again, and the report is whole."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def test_a_search_survives_failed_jobs_and_is_resumed(tmp_path: Path) -> None:
    """Two learning rates of one phase, each also with samples that are all too long; two objectives."""
    sweep = tmp_path / "sweep"
    searched = ("phases.knowledge.max_seq_len=32,5", "phases.knowledge.learning_rate=1e-3,1e-2")
    fixed = ("~phases.skills", "phases.knowledge.num_epochs=1", f"store_dir={tmp_path / 'store'}", "+sweep=pareto")
    unsearched = ("schedule.initial=0.3", "schedule.reduction=0.1", "training.learning_rate=1e-2")
    grid = ("hydra.sweeper.sampler=grid",)

    def osftx(*more: str) -> tuple[dict[str, Any], str]:
        command = [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", *fixed, *unsearched, *searched, *grid]
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]  # what failed was wrong in the settings
        assert "Traceback" not in done.stdout + done.stderr
        return json.loads((sweep / "sweep.json").read_text()), done.stdout

    content, shown = osftx(f"hydra.sweep.dir={sweep}")
    jobs = content["jobs"]
    assert [job["state"] for job in jobs] == ["done", "done", "failed", "failed"]
    assert "all 120 conversations are longer than max_seq_len = 5" in jobs[2]["failure"]
    assert content["objectives"] == ["summary.learning_accuracy", "summary.forgetting"]
    assert all(
        job["objective"] == [job["summary"][key] for key in ("learning_accuracy", "forgetting")] for job in jobs[:2]
    )
    assert any(job["best"] for job in jobs[:2])
    assert jobs[1]["parameters"] == {"phases.knowledge.max_seq_len": "32", "phases.knowledge.learning_rate": "0.01"}
    assert "2 phases trained, 0 reused, 2 of 4 jobs failed" in shown
    assert "data:image/png;base64" in (sweep / "sweep.html").read_text()

    resumed, shown = osftx(f"sweep.resume={sweep}")
    assert resumed["jobs"][:2] == jobs[:2]  # kept as they were
    assert [(job["number"], job["state"]) for job in resumed["jobs"][2:]] == [(4, "failed"), (5, "failed")]
    assert "training knowledge" not in shown
