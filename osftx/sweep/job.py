"""One job of a sweep, and the record `job.json` that it leaves: all that the end of the sweep knows of it.

Jobs may run in other processes or on other machines, so nothing else is handed on.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from osftx.config.run_layout import JOB
from osftx.errors import ConfigurationError, PrunedError, StoppedError, TrainingError
from osftx.utils.files import write_json

Objective = float | list[float | None] | None


class State(str, Enum):
    done = "done"
    pruned = "pruned"
    """Ended between two phases by the search."""
    failed = "failed"


@dataclass
class Job:
    """What one job of a sweep came to."""

    number: int
    overrides: list[str]
    """Of the command line, this job's values put in."""
    state: State = State.done
    failure: str | None = None
    """Why it failed; null if it did not."""
    exit_code: int = 0
    """What it would have ended with alone: 0 done or pruned, 1 training failed, 2 the configuration is wrong."""
    objective: Objective = None
    """A list where the configuration names several."""
    summary: dict[str, float | None] = field(default_factory=dict)
    trained: int = 0
    """Phases that this job trained."""
    reused: int = 0
    """Phases that were in the store."""
    training_s: float = 0.0
    """Seconds of the phases that this job trained."""
    duration_s: float = 0.0
    """Seconds from the job's beginning to its end."""

    @classmethod
    def read(cls, path: Path) -> "Job | None":
        """None where there is no record, or one that cannot be read: the job is run again."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(**content | {"state": State(content["state"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JOB, asdict(self))

    def take(self, results: dict[str, Any]) -> None:
        """Fill in what `results.json` holds."""
        self.objective, self.summary = results["objective"], results["summary"]
        own = [phase for phase in results["phases"] if not phase["reused"]]
        self.trained, self.reused = len(own), len(results["phases"]) - len(own)
        self.training_s = round(sum(phase["duration_s"] for phase in own), 3)

    def fail(self, cause: str, exit_code: int) -> None:
        self.state, self.failure, self.exit_code = State.failed, cause, exit_code


def run_job(job: Job, folder: Path, run: Callable[[], dict[str, Any] | None], resumed: bool) -> Objective:
    """Run one job and leave its record in `folder`; returns the objective, None if it failed.

    `run` returns the content of results.json, None if there is none. A failure is told and recorded, and the sweep
    goes on; only StoppedError, for which somebody asked, is raised. Where the sweep is `resumed`, a job that ended
    well with the same overrides is not run again.
    """
    print(f"\nJob {job.number}: {' '.join(job.overrides)}", flush=True)
    if resumed and (before := _ended(job, folder)) is not None:
        print("done before", flush=True)
        return before.objective
    begun = time.perf_counter()
    try:
        results = run()
        if results is not None:
            job.take(results)
    except StoppedError:
        raise
    except PrunedError as error:
        job.state = State.pruned
        job.take(error.results)
        print(f"job {job.number} ended early: {error}", flush=True)
    except ConfigurationError as error:
        job.fail(str(error), exit_code=2)
    except TrainingError as error:
        job.fail(str(error), exit_code=1)
    except Exception as error:  # whatever it is, the jobs still to come must not be lost to it
        traceback.print_exc()
        job.fail(" ".join(f"{type(error).__name__}: {error}".split()), exit_code=1)
    if job.failure is not None:
        print(f"osftx: job {job.number} failed: {job.failure}", file=sys.stderr, flush=True)
    job.duration_s = round(time.perf_counter() - begun, 3)
    job.save(folder)
    return job.objective


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of the sweep in `folder` that have ended, by number."""
    found = map(Job.read, folder.glob(f"*/{JOB}"))
    return sorted((job for job in found if job is not None), key=lambda job: job.number)


def _ended(job: Job, folder: Path) -> Job | None:
    before = Job.read(folder / JOB)
    same = before is not None and before.overrides == job.overrides and before.state is not State.failed
    return before if same else None
