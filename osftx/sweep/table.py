"""The table of all jobs of a sweep that has ended: on the screen, in `sweep.json` and in `sweep.html`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from osftx.config.objective import Direction, as_list, best
from osftx.config.run_layout import SWEEP, SWEEP_REPORT
from osftx.results.job_record import Job, State
from osftx.results.retention import FIGURES
from osftx.sweep.importance import importance
from osftx.utils.console import console
from osftx.utils.files import write_json

SHOWN_FIGURES = FIGURES[:3]


@dataclass
class Sweep:
    """The jobs of a sweep, and which of them are the best."""

    objectives: list[str]
    """Objectives as paths into results.json."""
    directions: list[Direction]
    """Whether a larger or a smaller value is better, for each objective."""
    keys: list[str]
    """Settings that differ between the jobs."""
    jobs: list[Job]
    best: list[int]
    """Numbers of the jobs on the Pareto front, which no other job beats; with a single objective, of the best job."""

    @classmethod
    def of(cls, jobs: list[Job], objectives: list[str], directions: list[Direction], swept: Sequence[str]) -> "Sweep":
        """Returns the sweep of the given jobs.

        `swept` are the keys that are known to have several values; further keys are found by comparing the jobs.
        """
        finished = [job for job in jobs if job.state is State.done and values_of(job, len(objectives))]
        front = best([values_of(job, len(objectives)) for job in finished], directions)
        common = set.intersection(*(set(job.overrides) for job in jobs))
        differing = [word.partition("=")[0] for job in jobs for word in job.overrides if word not in common]
        keys = list(dict.fromkeys([*swept, *differing]))
        return cls(objectives, directions, keys, jobs, [finished[place].number for place in front])

    def parameters(self, job: Job) -> dict[str, str]:
        """Returns the job's values of the settings that differ, as in its overrides."""
        given = {key: value for key, _, value in (word.partition("=") for word in job.overrides)}
        return {key: given[key] for key in self.keys if key in given}

    def importance(self) -> dict[str, dict[str, float]]:
        """Returns the importance of each setting, 0 to 1, by objective."""
        count = len(self.objectives)
        jobs = [job for job in self.jobs if job.state is State.done and values_of(job, count)]
        settings = [self.parameters(job) for job in jobs]
        columns = zip(*(values_of(job, count) for job in jobs), strict=True)
        found = {
            path: importance(settings, list(column), towards)
            for path, towards, column in zip(self.objectives, self.directions, columns, strict=False)
        }
        return {path: shares for path, shares in found.items() if shares}


def values_of(job: Job, count: int) -> list[float]:
    """Returns the job's objectives; an empty list unless it has a number for each of the `count` objectives."""
    values = [value for value in as_list(job.objective) if value is not None]
    return values if len(values) == count else []


def write(sweep: Sweep, folder: Path) -> None:
    """Writes sweep.json, and from it sweep.html with its figures; prints a warning if the report fails."""
    jobs = [asdict(job) | {"parameters": sweep.parameters(job), "best": job.number in sweep.best} for job in sweep.jobs]
    content: dict[str, Any] = {
        "objectives": sweep.objectives,
        "directions": [towards.value for towards in sweep.directions],
        "parameters": sweep.keys,
        **{name: sum(getattr(job, name) for job in sweep.jobs) for name in ("trained", "reused")},
        **{state.value: sum(job.state is state for job in sweep.jobs) for state in State},
        "jobs": jobs,
        "importance": {},
    }
    write_json(folder / SWEEP, content)
    from osftx.report import write_sweep_report  # imports matplotlib

    try:
        write_json(folder / SWEEP, content | {"importance": sweep.importance()})
        write_sweep_report(folder)
    except Exception as error:  # an error of Optuna or a drawing library must not cost the table
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: the report could not be written ({reason}); {SWEEP} holds its numbers", flush=True)


def show(sweep: Sweep, folder: Path) -> None:
    """Prints one line per job with the settings that differ, its figures, and the reason of a failure."""
    table = Table(title="Jobs of the sweep", title_justify="left")
    table.add_column("job", justify="right")
    table.add_column("settings", overflow="fold")
    names = [path.removeprefix("summary.").replace("_", " ") for path in sweep.objectives]
    for name, towards in zip(names, sweep.directions, strict=True):
        table.add_column(f"{escape(name)}\n({towards.value})", justify="right")
    others = [key for key in SHOWN_FIGURES if f"summary.{key}" not in sweep.objectives]
    for heading in (*(key.replace("_", " ") for key in others), "trained", "reused", "time"):
        table.add_column(heading, justify="right")
    for job in sweep.jobs:
        figures = [*job.objective_values(len(names)), *(job.summary.get(key) for key in others)]
        table.add_row(
            f"{'* ' if job.number in sweep.best else ''}{job.number}",
            escape(" ".join(f"{key}={shortened(value)}" for key, value in sweep.parameters(job).items())),
            *("-" if figure is None else f"{figure:.3f}" for figure in figures),
            str(job.trained),
            str(job.reused),
            f"{job.duration_s:.0f} s",
        )
        if job.state is not State.done:
            table.add_row("", f"[red]failed:[/] {escape(job.failure)}" if job.failure else "[yellow]ended early[/]")
    screen = console()
    screen.print(table)
    if sweep.best:
        several = len(sweep.objectives) > 1
        screen.print(f"* {'on the Pareto front: no other job beats it' if several else 'best'}", style="dim")
    trained, reused = sum(job.trained for job in sweep.jobs), sum(job.reused for job in sweep.jobs)
    failed, pruned = (sum(job.state is state for job in sweep.jobs) for state in (State.failed, State.pruned))
    ended = f", {pruned} ended early" if pruned else ""
    print(f"{trained} phases trained, {reused} reused, {failed} of {len(sweep.jobs)} jobs failed{ended}")
    if (folder / SWEEP_REPORT).exists():
        print(f"Report:       {folder / SWEEP_REPORT}")
    print(f"Sweep folder: {folder}")


def shortened(value: str) -> str:
    """Returns a number with four significant digits, which is enough to distinguish jobs; any other text unchanged."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value
