"""One job of a sweep, and the record `job.json` that it leaves.

Jobs may run in other processes or on other machines, so the end of the sweep knows nothing else about them.
"""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from osftx.config.run_layout import JOB
from osftx.errors import ConfigurationError, ExitCode, PrunedError, StoppedError, TrainingError
from osftx.utils.console import complain
from osftx.utils.files import write_json

Objective = float | list[float | None] | None


class State(str, Enum):
    """How a job ended."""

    done = "done"
    pruned = "pruned"
    """The search ended it between two phases."""
    failed = "failed"


@dataclass
class Job:
    """The record of one job."""

    number: int
    overrides: list[str]
    """The overrides of the command line, with this job's values."""
    state: State = State.done
    failure: str | None = None
    """Why it failed; null if it did not."""
    exit_code: int = ExitCode.done
    """The `ExitCode` that the job would have ended with on its own; 0 if it was pruned."""
    objective: Objective = None
    """A list where the configuration names several objectives."""
    summary: dict[str, float | None] = field(default_factory=dict)
    """`summary` of results.json."""
    trained: int = 0
    """Number of phases that this job trained."""
    reused: int = 0
    """Number of phases that were in the store."""
    training_s: float = 0.0
    """Seconds that training took in this job's own phases."""
    duration_s: float = 0.0
    """Seconds from the job's start to its end."""

    @classmethod
    def read(cls, path: Path) -> "Job | None":
        """Reads a record; None if there is none or it cannot be read, in which case the job is run again."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(**content | {"state": State(content["state"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def save(self, folder: Path) -> None:
        """Writes the record into the folder of the job."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / JOB, asdict(self))

    def take(self, results: dict[str, Any]) -> None:
        """Fills in the record from the content of results.json."""
        self.objective, self.summary = results["objective"], results["summary"]
        own = [phase for phase in results["phases"] if not phase["reused"]]
        self.trained, self.reused = len(own), len(results["phases"]) - len(own)
        self.training_s = round(sum(phase["duration_s"] for phase in own), 3)

    def fail(self, cause: str, exit_code: int) -> None:
        """Marks the job as failed."""
        self.state, self.failure, self.exit_code = State.failed, cause, exit_code


def run_job(job: Job, folder: Path, run: Callable[[], dict[str, Any] | None], resumed: bool) -> Objective:
    """Runs one job and leaves its record in `folder`; returns the objective, or None if the job failed.

    `run` returns the content of results.json, or None if there is none. A failure is printed and recorded, and the
    sweep goes on. Where the sweep is `resumed`, a job that ended well with the same overrides is not run again. Raises
    only StoppedError: whoever stopped the job wants the sweep to end.
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
    except (ConfigurationError, TrainingError) as error:
        job.fail(str(error), error.exit_code)
    except Exception as error:  # whatever it is, it must not end the jobs still to come
        traceback.print_exc()
        job.fail(" ".join(f"{type(error).__name__}: {error}".split()), ExitCode.training_failed)
    if job.failure is not None:
        complain(f"job {job.number} failed: {job.failure}")
    job.duration_s = round(time.perf_counter() - begun, 3)
    job.save(folder)
    return job.objective


def read_jobs(folder: Path) -> list[Job]:
    """Returns the jobs of the sweep in `folder` that have ended, by number."""
    found = map(Job.read, folder.glob(f"*/{JOB}"))
    return sorted((job for job in found if job is not None), key=lambda job: job.number)


def _ended(job: Job, folder: Path) -> Job | None:
    """Returns the record of the same job, if it ended well before."""
    before = Job.read(folder / JOB)
    same = before is not None and before.overrides == job.overrides and before.state is not State.failed
    return before if same else None
