"""What the report of a sweep is made from: `sweep.json`, in the shape that the figures and the page want."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osftx.config.run_layout import SWEEP

Json = dict[str, Any]


@dataclass
class JobRecord:
    number: int
    state: str
    """`done`, `pruned` or `failed`."""
    failure: str | None
    values: list[float | None]
    """Its objectives, in the order of the sweep's."""
    parameters: dict[str, str]
    summary: dict[str, float | None]
    trained: int
    reused: int
    duration_s: float
    best: bool
    """On the Pareto front; with one objective, the best."""

    @property
    def finished(self) -> bool:
        return self.state == "done" and None not in self.values


@dataclass
class SweepRecord:
    name: str
    objectives: list[str]
    """As read in a figure: `average accuracy`."""
    directions: list[str]
    parameters: list[str]
    jobs: list[JobRecord]
    importance: list[tuple[str, dict[str, float]]]
    """By objective; empty where it cannot be told."""

    @property
    def finished(self) -> list[JobRecord]:
        return [job for job in self.jobs if job.finished]

    @classmethod
    def read(cls, folder: Path) -> "SweepRecord":
        content = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        return cls(
            name=folder.resolve().name,
            objectives=[_readable(path) for path in content["objectives"]],
            directions=content["directions"],
            parameters=content["parameters"],
            jobs=[_job(job, len(content["objectives"])) for job in content["jobs"]],
            importance=[(_readable(path), shares) for path, shares in content["importance"].items()],
        )


def _job(job: Json, count: int) -> JobRecord:
    objective = job["objective"]
    values = objective if isinstance(objective, list) else [objective]
    own = ("number", "state", "failure", "parameters", "summary", "trained", "reused", "duration_s", "best")
    return JobRecord(values=[*values, *[None] * count][:count], **{key: job[key] for key in own})


def _readable(path: str) -> str:
    return path.removeprefix("summary.").replace("_", " ")
