"""The only reader of the files of a sweep: `job.json` of each job, and `sweep.json` for all of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osftx.config.run_layout import JOB, SWEEP
from osftx.results.job_record import Job, State
from osftx.results.plain_files import read_json

Json = dict[str, Any]


@dataclass(kw_only=True)
class JobRecord(Job):
    """A job with its values and its rank among the jobs of its sweep."""

    values: list[float | None]
    """Values of the objectives, in the order of the sweep's; None if the job has no value."""
    parameters: dict[str, str]
    """The job's values of the settings that differ between the jobs, as in its overrides."""
    best: bool
    """Whether the job is on the Pareto front; with a single objective, whether it is the best."""

    @property
    def finished(self) -> bool:
        """Whether the job is done and has a value for each objective."""
        return self.state is State.done and None not in self.values


@dataclass
class SweepRecord:
    """A sweep that has ended, as its report shows it."""

    name: str
    objectives: list[str]
    """Names of the objectives as shown in figures, such as `average accuracy`."""
    directions: list[str]
    """`maximize` or `minimize` for each objective."""
    parameters: list[str]
    """Settings that differ between the jobs."""
    jobs: list[JobRecord]
    importance: list[tuple[str, dict[str, float]]]
    """Importance of each setting, by objective; empty if it cannot be computed."""

    @property
    def finished(self) -> list[JobRecord]:
        """Jobs that have a value for each objective."""
        return [job for job in self.jobs if job.finished]


def read_sweep(folder: Path) -> SweepRecord:
    """Returns the record of the sweep in `folder`.

    Raises OSError, ValueError, KeyError or TypeError if it cannot be read.
    """
    content = read_json(folder / SWEEP)
    return SweepRecord(
        name=folder.resolve().name,
        objectives=[_readable(path) for path in content["objectives"]],
        directions=content["directions"],
        parameters=content["parameters"],
        jobs=[_ranked(job, len(content["objectives"])) for job in content["jobs"]],
        importance=[(_readable(path), shares) for path, shares in content["importance"].items()],
    )


def read_jobs(folder: Path) -> list[Job]:
    """Returns the jobs of the sweep in `folder` that have ended, ordered by number."""
    found = (read_job(path.parent) for path in folder.glob(f"*/{JOB}"))
    return sorted((job for job in found if job is not None), key=lambda job: job.number)


def read_job(folder: Path) -> Job | None:
    """Returns the record in the run folder of a job; None if there is none or it cannot be read."""
    try:
        return _job(read_json(folder / JOB))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _job(content: Json) -> Job:
    job = Job(**content | {"state": State(content["state"])})
    if not isinstance(job.number, int):
        raise TypeError(f"job number {job.number!r}")
    return job


def _ranked(content: Json, count: int) -> JobRecord:
    """Returns a job of `sweep.json`, which has `parameters` and `best` beside the fields of `job.json`."""
    own = {key: value for key, value in content.items() if key not in ("parameters", "best")}
    job = _job(own)
    return JobRecord(
        **vars(job), values=job.objective_values(count), parameters=content["parameters"], best=content["best"]
    )


def _readable(path: str) -> str:
    return path.removeprefix("summary.").replace("_", " ")
