"""Run one job of a sweep and leave its record, however the job ends."""

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from osftx.errors import ConfigurationError, PrunedError, StoppedError, TrainingError
from osftx.results.job_record import Job, Objective, State
from osftx.results.sweep_reader import read_job


def run_job(job: Job, folder: Path, run: Callable[[], dict[str, Any] | None], resumed: bool) -> Objective:
    """Runs one job and leaves its record in `folder`; returns the objective, None if the job failed.

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


def _ended(job: Job, folder: Path) -> Job | None:
    """The record of the same job, if it ended well before."""
    before = read_job(folder)
    same = before is not None and before.overrides == job.overrides and before.state is not State.failed
    return before if same else None
