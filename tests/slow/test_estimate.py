"""What is told of the memory before a start is what two ranks then hold."""

import json
import subprocess
import sys
from pathlib import Path

from checkout import ROOT

CLOSE = 0.02
"""Of what lives between two steps; it is counted, so scalars alone are missing."""
PEAK = (0.9, 1.5)
"""Estimated over measured: the peak must not be promised too low."""


def test_the_estimate_is_what_is_measured(tmp_path: Path) -> None:
    found = tmp_path / "memory.json"
    small = ("--ranks", "2", "--hidden", "128", "--sequences", "2", "--length", "128")
    command = [sys.executable, str(ROOT / "benchmarks" / "memory.py"), *small, "--json", str(found)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(found.read_text())["rows"]
    assert [(row["method"], row["unfreeze_rank_ratio"]) for row in rows] == [
        ("sft", 1.0),
        ("osft", 0.1),
        ("osft", 0.2),
        ("osft", 0.3),
    ]
    for row in rows:
        assert abs(row["estimated_state_bytes"] / row["state_bytes"] - 1) < CLOSE, row
        assert row["estimated_bucket_bytes"] == row["bucket_bytes"]
        assert PEAK[0] < row["estimated_peak_bytes"] / row["peak_bytes"] < PEAK[1], row
