"""Write how well the share of a set's inputs in free directions, known before a phase, foretells what is forgotten.

    python experiments/subspace_by_activations/foreseen.py RUNS --output FOLDER

RUNS is where `run.sh` trained. FOLDER gets `foreseen.md` and `foreseen.png`: each phase of each run, with what it had
to keep.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from tables import OWN, Groups, accuracy, by_kind, by_size, runs_of

from osftx.compare.runs import RunRecord
from osftx.foresight import NEAR
from osftx.report.drawing import STYLE, new_figure

BEFORE = {"knowledge": "base", "skills": "knowledge"}
"""The state that each phase starts from."""
SETS = {"knowledge": ["base"], "skills": ["base", "knowledge"]}
"""What each phase has to keep."""


class Point(NamedTuple):
    """One set in one phase of one run."""

    share: float
    taught: float
    before: float
    after: float


def points(runs: Iterable[RunRecord], phase: str, name: str) -> Iterator[Point]:
    for run in runs:
        (own,) = [result for result in run.results["phases"] if result["name"] == phase]
        shares = own["preservation"]["free_shares"]
        yield Point(
            shares["sets"][name], shares["taught"], accuracy(run, BEFORE[phase], name), accuracy(run, phase, name)
        )


def table(groups: Groups) -> str:
    heading = "| preserve set | phase | must keep | free of it | free of what is taught | ratio | before | after |"
    lines = [heading, "|---" * 8 + "|"]
    for label, runs in groups.items():
        for phase, names in SETS.items():
            for name in names:
                found = list(points(runs, phase, name))
                share, taught, before, after = (mean(values) for values in zip(*found, strict=True))
                cells = f"{share:.4f} | {taught:.4f} | {share / taught:.2f} | {before:.3f} | {after:.3f}"
                lines.append(f"| {label} | {phase} | {name} | {cells} |")
    return "\n".join(lines)


def warned(groups: Groups) -> str:
    """How often a warning was right: a set that lost more than a twentieth of what was there."""
    kept = [(phase, name) for phase, names in SETS.items() for name in names]
    counts = {(near, lost): 0 for near in (True, False) for lost in (True, False)}
    for point in (point for runs in groups.values() for phase, name in kept for point in points(runs, phase, name)):
        counts[point.share > NEAR * point.taught, point.before - point.after > 0.05 * point.before] += 1
    return "\n".join(
        [
            "| | lost more than a twentieth | kept it |",
            "|---|---|---|",
            f"| warned (ratio above {NEAR}) | {counts[True, True]} | {counts[True, False]} |",
            f"| not warned | {counts[False, True]} | {counts[False, False]} |",
        ]
    )


def picture(groups: Groups, path: Path) -> None:
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure, axes = new_figure(6.5, 4.0)
        for phase, names in SETS.items():
            for name in names:
                found = [point for runs in groups.values() for point in points(runs, phase, name)]
                ratios = [point.share / point.taught for point in found]
                kept = [point.after / point.before for point in found]
                axes.plot(ratios, kept, "o", markersize=4, alpha=0.7, label=f"{name}, in phase {phase}")
        axes.axvline(NEAR, color="black", linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("free share of the set's inputs, over that of what is taught")
        axes.set_ylabel("exact match kept in the phase")
        figure.legend(loc="outside lower center", frameon=False, ncols=3)
        figure.savefig(path, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="what run.sh trained")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()

    sizes = {f"{OWN}, {count}": runs for count, runs in by_size(runs_of(args.runs / "size")).items()}
    groups = sizes | by_kind(runs_of(args.runs / "mismatch"))
    parts = ["Means over the seeds.", table(groups), "Of all phases and seeds:", warned(groups)]
    (args.output / "foreseen.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    picture(groups, args.output / "foreseen.png")


if __name__ == "__main__":
    main()
