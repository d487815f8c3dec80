"""A search on real runs: what failed is recorded, what is done is not run again, and the report is whole."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from checkout import ROOT


def test_a_search_survives_failed_jobs_and_is_resumed(tmp_path: Path) -> None:
    """Three lengths of one phase, for one of which all samples are too long; two objectives."""
    sweep = tmp_path / "sweep"
    searched = ("phases.knowledge.max_seq_len=32,5,31",)
    fixed = ("~phases.skills", "phases.knowledge.num_epochs=1", f"store_dir={tmp_path / 'store'}", "+sweep=pareto")
    unsearched = ("schedule.initial=0.3", "schedule.reduction=0.1", "training.learning_rate=1e-2")
    grid = ("hydra.sweeper.sampler=grid",)
    small = ("distributed.nproc_per_node=1", "~evaluation.sets.skills", "osft.save_bases=false")

    def osftx(*more: str) -> tuple[dict[str, Any], str]:
        command = [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", *fixed, *unsearched]
        command += [*searched, *grid, *small]
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]  # what failed was wrong in the settings
        assert "Traceback" not in done.stdout + done.stderr
        return json.loads((sweep / "sweep.json").read_text()), done.stdout

    content, shown = osftx(f"hydra.sweep.dir={sweep}")
    jobs = content["jobs"]
    assert [job["state"] for job in jobs] == ["done", "failed", "done"]
    assert "all 120 samples are longer than max_seq_len = 5" in jobs[1]["failure"]
    assert content["objectives"] == ["summary.learning_accuracy", "summary.forgetting"]
    for job in jobs[::2]:
        assert job["objective"] == [job["summary"]["learning_accuracy"], job["summary"]["forgetting"]]
    assert any(job["best"] for job in jobs[::2])
    assert jobs[2]["parameters"] == {"phases.knowledge.max_seq_len": "31"}
    assert "2 phases trained, 0 reused, 1 of 3 jobs failed" in shown
    assert "data:image/png;base64" in (sweep / "sweep.html").read_text()

    resumed, shown = osftx(f"sweep.resume={sweep}")
    assert resumed["jobs"][:2] == jobs[::2]  # kept as they were
    assert [(job["number"], job["state"]) for job in resumed["jobs"][2:]] == [(3, "failed")]
    assert "training knowledge" not in shown
