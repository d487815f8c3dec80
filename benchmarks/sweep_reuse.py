"""Compares a sweep over phase-2 settings with and without the phase store: phases trained, wall clock, their ratio.

    python benchmarks/sweep_reuse.py [--points 6] [--json FILE] [OVERRIDE ...]

Runs `+experiment=tiny_two_phase` from the checkout, twice the same sweep, each with its own store and run folders. The
figures hold for one machine and one run. The ratio carries over to others, and depends on the relative cost of the two
phases. By default both phases are shortened to about a quarter.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import write

from osftx.results.sweep_reader import read_sweep

ROOT = Path(__file__).resolve().parents[1]
SHORT = ["phases.knowledge.num_epochs=25", "phases.skills.num_epochs=1"]


def sweep(folder: Path, points: int, overrides: list[str]) -> dict[str, Any]:
    """Runs the sweep in `folder`; returns the phases trained, the phases reused, and the wall clock in seconds."""
    rates = ",".join(f"{1e-3 * (point + 1):g}" for point in range(points))
    begun = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", *overrides),
            *(f"phases.skills.learning_rate={rates}", f"store_dir={folder / 'store'}"),
            *(f"hydra.sweep.dir={folder / 'sweep'}", "-m"),
        ],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wall_s = time.perf_counter() - begun
    jobs = read_sweep(folder / "sweep").jobs
    trained, reused = sum(job.trained for job in jobs), sum(job.reused for job in jobs)
    return {"trained": trained, "reused": reused, "wall_s": round(wall_s, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=6, help="jobs of the sweep")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("overrides", nargs="*", default=SHORT, help="of the experiment (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            name: sweep(Path(folder) / name, args.points, [*args.overrides, f"reuse={reuse}"])
            for name, reuse in (("store", "true"), ("no_store", "false"))
        }
    ratio = figures["store"]["wall_s"] / figures["no_store"]["wall_s"]
    print(f"{'':<10} {'trained':>8} {'reused':>8} {'wall clock':>12}")
    for name, row in figures.items():
        print(f"{name:<10} {row['trained']:>8} {row['reused']:>8} {row['wall_s']:>10.1f} s")
    print(f"store / no store: {ratio:.2f}")
    if args.json is not None:
        rows = [{"with": name, **row} for name, row in figures.items()]
        write(args.json, {"points": args.points, "overrides": args.overrides, "ratio": round(ratio, 3)}, rows)


if __name__ == "__main__":
    main()
