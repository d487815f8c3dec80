"""Measures the parts of the time before the first training step, and the time of the commands that train nothing.

    python benchmarks/startup.py [--ranks 2] [--rounds 5] [--json FILE]

Runs `+experiment=tiny_two_phase` from the checkout and watches its run folder. The plan is written when configuration
and data have been checked, the phase's settings when its ranks are started, and the metrics when its loop begins. The
figures are medians without the first round, which reads everything from the disk.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Rows, write

ROOT = Path(__file__).resolve().parents[1]
OSFTX = (sys.executable, "-m", "osftx")
EXPERIMENT = "+experiment=tiny_two_phase"
PHASE = "phases/01_knowledge"
LONGEST_S = 300
MARKS = {
    "configuration, data, plan": lambda run: (run / "plan.json").is_file(),
    "up to the ranks": lambda run: (run / PHASE / "phase.yaml").is_file(),
    "imports, model, subspaces, first evaluation": lambda run: (run / PHASE / "metrics.jsonl").is_file(),
    "the first step": lambda run: (run / PHASE / "metrics.jsonl").stat().st_size > 0,
}
"""Parts of the start in order, each with a condition on the run folder that holds once the part is done."""


def seconds(*command: str) -> float:
    begun = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def first_step(folder: Path, ranks: int) -> dict[str, float]:
    """Returns the seconds of each part up to the end of the first step, after which the run is stopped."""
    run, parts = folder / "run", {}
    begun = last = time.perf_counter()
    command = [*OSFTX, EXPERIMENT, f"output_dir={run}", f"distributed.nproc_per_node={ranks}", "reuse=false"]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for part, is_done in MARKS.items():
            while not is_done(run):
                if running.poll() is not None or time.perf_counter() - begun > LONGEST_S:
                    raise RuntimeError(f"it did not get as far as: {part}")
                time.sleep(0.01)
            now = time.perf_counter()
            parts[part], last = now - last, now
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait()
    return parts


def measure(ranks: int, rounds: int) -> Rows:
    took: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        once = {"--help": seconds(*OSFTX, "--help"), "dry_run=true": seconds(*OSFTX, EXPERIMENT, "dry_run=true")}
        with tempfile.TemporaryDirectory() as folder:
            parts = first_step(Path(folder), ranks)
        once |= parts | {"command to first step": sum(parts.values())}
        for name, value in once.items():
            took.setdefault(name, []).append(value)
    rows: list[dict[str, Any]] = []
    for name, values in took.items():
        warm = values[1:]
        rows.append({"what": name, "seconds": statistics.median(warm), "range": [min(warm), max(warm)]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    rows = measure(args.ranks, args.rounds)
    for row in rows:
        low, high = row["range"]
        print(f"{row['what']:<45} {row['seconds']:>6.2f} s   {low:.2f} to {high:.2f}")
    if args.json is not None:
        write(
            args.json, {"ranks": args.ranks, "rounds": args.rounds, "threads": os.environ.get("OMP_NUM_THREADS")}, rows
        )


if __name__ == "__main__":
    main()
