"""Writes how well the subspace overlap of an evaluation set, known before a phase, predicts what the phase forgets.

    python experiments/subspace_by_activations/foreseen.py RUNS --output FOLDER

RUNS is the folder in which `run.sh` trained. FOLDER receives `foreseen.md` and `foreseen.png`, with each phase of each
run and the sets that it had to keep.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from tables import Groups, accuracy, by_preserve_set, runs_of

from osftx.methods.osft.foresight import NEAR
from osftx.report.drawing import STYLE, new_figure
from osftx.results.run_record import RunRecord

OTHERS = {"other learning rates": "rates/activations", "a skill of known words": "known/activations"}
LOST = 0.05
"""Share of the exact match before a phase; a larger loss counts as forgotten."""


class Point(NamedTuple):
    """One evaluation set in one phase of one run."""

    phase: str
    name: str
    share: float
    taught: float
    before: float
    after: float

    @property
    def ratio(self) -> float:
        return self.share / self.taught


def points(runs: Iterable[RunRecord]) -> Iterator[Point]:
    """Yields the sets that each phase had to keep: that of the base, and those that earlier phases taught."""
    for run in runs:
        to_keep, before = ["base"], "base"
        for record in run.phases:
            phase, shares = record.name, record.result["preservation"]["free_shares"]
            for name in to_keep:
                scores = accuracy(run, before, name), accuracy(run, phase, name)
                if scores[0] > 0:  # otherwise there is nothing to lose
                    yield Point(phase, name, shares["sets"][name], shares["taught"], *scores)
            to_keep, before = [*to_keep, phase], phase


def table(groups: Groups) -> str:
    """Returns a table of subspace overlap and exact match by preserve set, phase and set to keep."""
    heading = "| preserve set | phase | must keep | free of it | free of what is taught | ratio | before | after |"
    lines = [heading, "|---" * 8 + "|"]
    for label, runs in groups.items():
        found = list(points(runs))
        for phase, name in dict.fromkeys((point.phase, point.name) for point in found):
            own = [point for point in found if (point.phase, point.name) == (phase, name)]
            share, taught, before, after = (mean(values) for values in zip(*(point[2:] for point in own), strict=True))
            cells = f"{share:.4f} | {taught:.4f} | {share / taught:.2f} | {before:.3f} | {after:.3f}"
            lines.append(f"| {label} | {phase} | {name} | {cells} |")
    return "\n".join(lines)


def warned(groups: Groups) -> str:
    """Returns a table of how often a warning was right, and how often one was missing."""
    counts = {(near, lost): 0 for near in (True, False) for lost in (True, False)}
    for point in (point for runs in groups.values() for point in points(runs)):
        counts[point.ratio > NEAR, point.before - point.after > LOST * point.before] += 1
    return "\n".join(
        [
            f"| | lost more than {LOST} of what was there | kept it |",
            "|---|---|---|",
            f"| warned (ratio above {NEAR}) | {counts[True, True]} | {counts[True, False]} |",
            f"| not warned | {counts[False, True]} | {counts[False, False]} |",
        ]
    )


def picture(groups: Groups, path: Path) -> None:
    """Draws the kept share of the exact match against the ratio of the subspace overlaps."""
    from matplotlib import rc_context
    from matplotlib.ticker import FuncFormatter

    found = [point for runs in groups.values() for point in points(runs)]
    with rc_context(STYLE):
        figure, axes = new_figure(6.5, 4.2)
        for phase, name in dict.fromkeys((point.phase, point.name) for point in found):
            own = [point for point in found if (point.phase, point.name) == (phase, name)]
            kept = [point.after / point.before for point in own]
            axes.plot([point.ratio for point in own], kept, "o", markersize=4, alpha=0.7, label=f"{name}, in {phase}")
        axes.axvline(NEAR, color="black", linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("free share of a set's inputs, over that of what is taught")
        axes.set_ylabel("of its exact match, kept in the phase")
        figure.legend(loc="outside lower center", frameon=False, ncols=3)
        figure.savefig(path, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="what run.sh trained")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()

    groups = by_preserve_set(args.runs)
    parts = ["Means over the seeds.", table(groups), "Of all phases and seeds:", warned(groups)]
    others = {label: runs_of(args.runs / folder) for label, folder in OTHERS.items()}
    if others := {label: runs for label, runs in others.items() if runs}:
        parts += ["## Runs that the threshold was not chosen by", table(others), warned(others)]
    (args.output / "foreseen.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    picture(groups | others, args.output / "foreseen.png")


if __name__ == "__main__":
    main()
