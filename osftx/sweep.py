"""A sweep's end: one table of all its jobs, on the screen and in `sweep.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from osftx.display import console
from osftx.files import write_json

JOB_FILE = "job.json"


@dataclass
class Job:
    """What one job of a sweep came to."""

    number: int
    overrides: list[str]
    """Of the command line, this job's values put in."""
    failure: str | None = None
    """Why it failed; null if it did not."""
    exit_code: int = 0
    """What it would have ended with alone."""
    objective: float | None = None
    summary: dict[str, float | None] = field(default_factory=dict)
    trained: int = 0
    """Phases that this job trained."""
    reused: int = 0
    """Phases that were in the store."""
    training_s: float = 0.0
    """Seconds of the phases that this job trained."""

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JOB_FILE, asdict(self))

    def take(self, results: dict[str, Any]) -> None:
        """Fill in what `results.json` holds."""
        self.objective, self.summary = results["objective"], results["summary"]
        own = [phase for phase in results["phases"] if not phase["reused"]]
        self.trained, self.reused = len(own), len(results["phases"]) - len(own)
        self.training_s = round(sum(phase["duration_s"] for phase in own), 3)


class Summary(Callback):
    """Hydra calls it when the last job of a sweep is done (conf/config.yaml names it)."""

    exit_codes: ClassVar[set[int]] = set()
    """What the jobs that failed would have ended with alone."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        for path in Path(config.hydra.sweep.dir).glob(f"*/{JOB_FILE}"):  # of an earlier sweep in the same folder
            path.unlink()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        jobs = read_jobs(folder)
        if not jobs:  # a dry run
            return
        Summary.exit_codes |= {job.exit_code for job in jobs} - {0}  # also of jobs in other processes
        failed = sum(job.failure is not None for job in jobs)
        trained, reused = sum(job.trained for job in jobs), sum(job.reused for job in jobs)
        write_json(folder / "sweep.json", {"trained": trained, "reused": reused, "jobs": [asdict(job) for job in jobs]})
        show(jobs)
        print(f"{trained} phases trained, {reused} reused, {failed} of {len(jobs)} jobs failed\nSweep folder: {folder}")


def read_jobs(folder: Path) -> list[Job]:
    """The jobs that have ended, by number."""
    found = [Job(**json.loads(path.read_text())) for path in folder.glob(f"*/{JOB_FILE}")]
    return sorted(found, key=lambda job: job.number)


def show(jobs: list[Job]) -> None:
    """One line a job: what it changed, and what came of it."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    table = Table(title="Jobs of the sweep", title_justify="left")
    table.add_column("job", justify="right")
    table.add_column("settings", overflow="fold")
    for heading in ("objective", "average accuracy", "forgetting", "trained", "reused", "training"):
        table.add_column(heading, justify="right")
    for job in jobs:
        settings = " ".join(override for override in job.overrides if override not in common)
        figures = (job.objective, job.summary.get("average_accuracy"), job.summary.get("forgetting"))
        table.add_row(
            str(job.number),
            escape(settings),
            *("-" if figure is None else f"{figure:.3f}" for figure in figures),
            str(job.trained),
            str(job.reused),
            f"{job.training_s:.0f} s",
        )
        if job.failure is not None:
            table.add_row("", f"[red]failed:[/] {escape(job.failure)}")
    console().print(table)
