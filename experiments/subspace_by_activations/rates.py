"""Writes what each method keeps at its best learning rates, chosen from the same grid of multiples for all methods.

    python experiments/subspace_by_activations/rates.py RUNS --output FOLDER

RUNS is the folder in which `run.sh` trained. FOLDER receives `rates.md`. The best rates are those that keep most of
base and facts, among the runs that learned both phases (`LEARNED`).
"""

import argparse
from pathlib import Path

from tables import accuracy, runs_of

from osftx.results.run_record import RunRecord

LEARNED = 0.95
"""Smallest exact match on the facts after phase 1 and on the skill after phase 2 that counts as learned."""
METHODS = {
    "sft": "plain fine-tuning",
    "weights": "by weights",
    "activations": "by activations",
}


def learned(run: RunRecord) -> bool:
    """Returns whether the run learned both phases."""
    return min(accuracy(run, "knowledge", "knowledge"), accuracy(run, "skills", "skills")) >= LEARNED


def kept(run: RunRecord) -> float:
    """Returns the mean of the exact match on base and facts after both phases."""
    return (accuracy(run, "skills", "base") + accuracy(run, "skills", "knowledge")) / 2


def rates(run: RunRecord) -> str:
    """Returns the learning rates of both phases as text."""
    phases = run.config.phases
    return f"{phases['knowledge'].learning_rate:g}, {phases['skills'].learning_rate:g}"


def row(label: str, runs: list[RunRecord]) -> str:
    """Returns the row of one method in the table."""
    able = [run for run in runs if learned(run)]
    if not able:
        return f"| {label} | none of {len(runs)} | | | | | |"
    best, worst = max(able, key=kept), min(able, key=kept)
    sets = [f"{accuracy(best, 'skills', name):.3f}" for name in ("base", "knowledge", "skills")]
    cells = [label, f"{len(able)} of {len(runs)}", rates(best), *sets, f"{kept(worst):.3f} to {kept(best):.3f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="what run.sh trained")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()

    headings = ["method", "pairs of rates that learned both", "best pair", "base kept", "facts kept", "skill"]
    headings.append("base and facts, worst to best")
    lines = [f"Seed 42; learned: facts and skill at {LEARNED} at least, each after its phase.", ""]
    lines += [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    lines += [row(label, runs_of(args.runs / "rates" / name)) for name, label in METHODS.items()]
    (args.output / "rates.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
