"""Writes the tables of the study from its runs.

    python experiments/subspace_by_activations/tables.py RUNS --output FOLDER

RUNS is the folder in which `run.sh` trained (`outputs/studies/subspace_by_activations`). FOLDER receives `tables.md`
and `kept.png`.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from osftx.compare.statistics import Estimate, estimate, paired_difference
from osftx.config.run_layout import CHECKPOINT, INPUT_COVARIANCE, JOB, JOB_OUTPUT, PHASES
from osftx.report.drawing import STYLE, new_figure
from osftx.results.job_record import State
from osftx.results.run_record import RunRecord
from osftx.results.sweep_reader import read_job
from osftx.results.whole_run import read_whole_run

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
    """Returns the finished jobs of one part of the study, which has one sweep per seed."""
    jobs = ((path.parent, read_job(path.parent)) for path in sorted(folder.glob(f"*/*/{JOB}")))
    return [read_whole_run(job_folder) for job_folder, job in jobs if job is not None and job.state is State.done]


def by_size(runs: Iterable[RunRecord]) -> Groups:
    """Returns the runs by the number of conversations in `preserve.data`, in ascending order."""
    groups: Groups = {}
    for run in sorted(runs, key=lambda run: run.config.preserve.data.limit or 0):
        groups.setdefault(str(run.config.preserve.data.limit), []).append(run)
    return groups


def by_kind(runs: Iterable[RunRecord]) -> Groups:
    """Returns the runs by the kind of their preserve set."""
    found: Groups = {}
    for run in runs:
        found.setdefault(Path(str(run.config.preserve.data.path)).stem, []).append(run)
    return {KINDS[kind]: found[kind] for kind in KINDS if kind in found}


def by_preserve_set(folder: Path) -> Groups:
    """Returns the runs of both parts by the description of their preserve set."""
    sizes = {f"{OWN}, {count}": runs for count, runs in by_size(runs_of(folder / "size")).items()}
    return sizes | by_kind(runs_of(folder / "mismatch"))


def accuracy(run: RunRecord, state: str, name: str) -> float:
    """Returns the exact match on an evaluation set, after a phase or for the `base`."""
    return run.exact_match[run.retention["states"].index(state)][name]


def over_seeds(runs: Iterable[RunRecord], state: str, name: str) -> dict[tuple[int, ...], float]:
    """Returns the `accuracy` of each run, by its seeds."""
    return {run.seeds: accuracy(run, state, name) for run in runs}


def written(value: Estimate | None, sign: str = "") -> str:
    """Returns a mean as text, with half of its 95% interval if the seeds differ."""
    if value is None:
        return ""
    mean = f"{value.mean:{sign}.3f}"
    return mean if value.half_width is None else f"{mean} ± {value.half_width:.3f}"


def two_phases(title: str, groups: Groups, reference: Sequence[RunRecord], against: str) -> str:
    """Returns a table of the results after both phases, with the difference from `reference` on the base."""
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
    """Returns a table of ratios, as medians over jobs; it has no seconds, since those hold for one machine only."""
    reading, decomposing, sizes = [], [], []
    for run in runs:
        seconds = dict.fromkeys(("reading inputs", "decomposing", "training"), 0)
        for what, done, of, minutes, rest in PROGRESS.findall((run.folder / JOB_OUTPUT).read_text(encoding="utf-8")):
            if done == of:
                seconds[what] += 60 * int(minutes) + int(rest)
        if seconds["training"]:
            reading.append(seconds["reading inputs"] / seconds["training"])
            decomposing.append(seconds["decomposing"] / seconds["training"])
        for phase in (run.folder / PHASES).iterdir():
            sizes.append(weight_bytes(phase / INPUT_COVARIANCE) / weight_bytes(phase / CHECKPOINT))
    return "\n".join(
        [
            "| what | against | share |",
            "|---|---|---|",
            f"| seconds of reading inputs, both phases | seconds of training steps | {median(reading):.2f} |",
            f"| seconds of decomposing | seconds of training steps | {median(decomposing):.2f} |",
            f"| bytes of `kept_inputs/` | bytes of the model (fp32) | {median(sizes):.2f} |",
        ]
    )


def weight_bytes(folder: Path) -> int:
    """Returns the size in bytes of the safetensors files in a folder."""
    return sum(file.stat().st_size for file in folder.resolve().glob("*.safetensors"))


def picture(size: Groups, kinds: Groups, path: Path) -> None:
    """Draws base and facts kept after both phases, by preserve set: a bar is the mean, a dot is one seed."""
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
