"""Write the tables of the study from its runs.

    python experiments/subspace_by_activations/tables.py RUNS --output FOLDER

RUNS is where `run.sh` trained (`outputs/studies/subspace_by_activations`). FOLDER gets `tables.md` and `kept.png`.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from osftx.compare.runs import RunRecord, read_run
from osftx.compare.statistics import Estimate, estimate, paired_difference
from osftx.report.drawing import STYLE, new_figure

Groups = dict[str, list[RunRecord]]

OWN = "the base's own mix"
KINDS = {
    "keep_reverse": "`reverse` alone",
    "keep_facts": "its directory of people alone",
    "keep_letters": "random letters on both sides",
    "keep_generated": "made up by the base itself",
}
PROGRESS = re.compile(r"^(reading inputs|decomposing|training)\b.*: (\d+)/(\d+) .*?(\d+):(\d+) gone", re.MULTILINE)


def runs_of(folder: Path) -> list[RunRecord]:
    """The finished jobs of a part: one folder a seed, in it one a job."""
    jobs = [job for job in sorted(folder.glob("*/*/job.json")) if json.loads(job.read_text())["state"] == "done"]
    return [read_run(job.parent) for job in jobs]


def by_size(runs: Iterable[RunRecord]) -> Groups:
    """By the conversations of `preserve.data`, fewest first."""
    groups: Groups = {}
    for run in sorted(runs, key=lambda run: run.config.preserve.data.limit or 0):
        groups.setdefault(str(run.config.preserve.data.limit), []).append(run)
    return groups


def by_kind(runs: Iterable[RunRecord]) -> Groups:
    found: Groups = {}
    for run in runs:
        found.setdefault(Path(str(run.config.preserve.data.path)).stem, []).append(run)
    return {KINDS[kind]: found[kind] for kind in KINDS if kind in found}


def by_preserve_set(folder: Path) -> Groups:
    """The runs of both parts, by what they read, in words."""
    sizes = {f"{OWN}, {count}": runs for count, runs in by_size(runs_of(folder / "size")).items()}
    return sizes | by_kind(runs_of(folder / "mismatch"))


def accuracy(run: RunRecord, state: str, name: str) -> float:
    """Exact match on an evaluation set, after a phase."""
    retention = run.results["retention"]
    return float(retention["metrics"]["exact_match"][retention["states"].index(state)][retention["sets"].index(name)])


def over_seeds(runs: Iterable[RunRecord], state: str, name: str) -> dict[tuple[int, ...], float]:
    return {run.seeds: accuracy(run, state, name) for run in runs}


def written(value: Estimate | None, sign: str = "") -> str:
    """A mean and half of its 95% interval, which there is where seeds differ."""
    if value is None:
        return ""
    mean = f"{value.mean:{sign}.3f}"
    return mean if value.half_width is None else f"{mean} ± {value.half_width:.3f}"


def two_phases(title: str, groups: Groups, reference: Sequence[RunRecord], against: str) -> str:
    """What both phases left, and how much more of the base than the runs of `reference`."""
    columns = [("knowledge", "base"), ("knowledge", "knowledge"), ("skills", "base"), ("skills", "knowledge")]
    columns.append(("skills", "skills"))
    headings = ["base after phase 1", "facts learned", "base after both", "facts kept", "skill"]
    lines = [f"| {title} | {' | '.join(headings)} | base, against {against} | seeds |", "|---" * 8 + "|"]
    own = over_seeds(reference, "skills", "base")
    for label, runs in groups.items():
        cells = [written(estimate(list(over_seeds(runs, *column).values()))) for column in columns]
        less = "" if runs is reference else written(paired_difference(over_seeds(runs, "skills", "base"), own), "+")
        lines.append(f"| {label} | {' | '.join(cells)} | {less} | {len(runs)} |")
    return "\n".join(lines)


def cost(runs: Iterable[RunRecord]) -> str:
    """Medians over jobs, and nothing in seconds: the machine is not the reader's."""
    reading, decomposing, sizes = [], [], []
    for run in runs:
        seconds = dict.fromkeys(("reading inputs", "decomposing", "training"), 0)
        for what, done, of, minutes, rest in PROGRESS.findall((run.folder / "output.log").read_text(encoding="utf-8")):
            if done == of:
                seconds[what] += 60 * int(minutes) + int(rest)
        if seconds["training"]:
            reading.append(seconds["reading inputs"] / seconds["training"])
            decomposing.append(seconds["decomposing"] / seconds["training"])
        for phase in (run.folder / "phases").iterdir():
            kept = sum(file.stat().st_size for file in (phase / "kept_inputs").resolve().glob("*.safetensors"))
            model = sum(file.stat().st_size for file in (phase / "checkpoint").resolve().glob("*.safetensors"))
            sizes.append(kept / model)
    return "\n".join(
        [
            "| what | against | share |",
            "|---|---|---|",
            f"| seconds of reading inputs, both phases | seconds of training steps | {median(reading):.2f} |",
            f"| seconds of decomposing | seconds of training steps | {median(decomposing):.2f} |",
            f"| bytes of `kept_inputs/` | bytes of the model (fp32) | {median(sizes):.2f} |",
        ]
    )


def picture(size: Groups, kinds: Groups, path: Path) -> None:
    """Base and facts that are kept after both phases, by preserve set; a bar is the mean, a dot a seed."""
    from matplotlib import rc_context

    groups = {f"{label} conversations": runs for label, runs in size.items()} | kinds
    with rc_context(STYLE):
        figure, axes = new_figure(8.0, 0.6 + 0.45 * len(groups))
        for shift, name, ink in ((-0.2, "base", "#0072B2"), (0.2, "knowledge", "#E69F00")):
            for place, runs in enumerate(groups.values()):
                values = list(over_seeds(runs, "skills", name).values())
                label = {"base": "base kept", "knowledge": "facts kept"}[name] if place == 0 else None
                axes.barh(place + shift, sum(values) / len(values), 0.36, color=ink, alpha=0.6, label=label)
                axes.plot(values, [place + shift] * len(values), "o", color="black", markersize=3)
        axes.set_yticks(range(len(groups)), list(groups))
        axes.invert_yaxis()
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("exact match after both phases")
        figure.legend(loc="outside lower center", frameon=False, ncols=2)
        figure.savefig(path, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, help="what run.sh trained")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()

    size, kinds = by_size(runs_of(args.runs / "size")), by_kind(runs_of(args.runs / "mismatch"))
    own = list(size.values())[-1]
    parts = [
        "Exact match, mean ± half of the 95% interval over the seeds, left out where all agree or there is one.",
        "## Conversations that are read",
        two_phases("conversations", size, own, "500"),
        "## Conversations of another kind",
        two_phases("kind", {OWN: own} | kinds, own, "its own mix"),
        "## Cost, medians over the runs with 500 conversations",
        cost(own),
    ]
    (args.output / "tables.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    picture(size, kinds, args.output / "kept.png")


if __name__ == "__main__":
    main()
