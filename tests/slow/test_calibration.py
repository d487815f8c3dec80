"""How long a run will take, told from some steps of it: on real ranks, against the run that follows."""

import json
import subprocess
import sys
from pathlib import Path

from checkout import ROOT


def test_the_time_is_told_before_and_nothing_is_kept_of_the_timing(tmp_path: Path) -> None:
    overrides = [
        "~phases.skills",
        "phases.knowledge.num_epochs=6",
        "distributed.nproc_per_node=1",
        "osft.subspace=activations",
        "plan.calibrate=true",
        f"output_dir={tmp_path / 'run'}",
        f"store_dir={tmp_path / 'store'}",
    ]
    command = [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    timed = done.stdout.index("Timing a first step and 4 more of phase knowledge")
    assert timed < done.stdout.index("Plan of tiny_two_phase")
    (planned,) = json.loads((tmp_path / "run" / "plan.json").read_text())["phases"]
    parts = planned["duration"]
    assert parts.keys() == {"start", "training", "measuring", "saving"}
    assert min(parts.values()) > 0
    (phase,) = json.loads((tmp_path / "run" / "results.json").read_text())["phases"]
    taken = sum(parts.values()) / phase["duration_s"]
    assert 0.3 < taken < 5, "another unit would be far off; the machine's load is not"
    assert phase["steps"] == planned["steps"] > 5
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("run", "store")] == []
