"""Runs one job of a sweep and leaves its record, however the job ends."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from osftx.errors import ConfigurationError, ExitCode, PrunedError, StoppedError, TrainingError
from osftx.results.job_record import Job, Objective, State
from osftx.results.sweep_reader import read_job
from osftx.utils.console import complain


def run_job(job: Job, folder: Path, run: Callable[[], dict[str, Any] | None], resumed: bool) -> Objective:
    """Runs one job and leaves its record in `folder`; returns the objective, or None if the job failed.

    `run` returns the content of results.json, or None if there is none. A failure is printed and recorded, and the
    sweep goes on. If the sweep is `resumed`, a job that ended without a failure with the same overrides is not run
    again. Raises only StoppedError, since whoever stopped the job wants the sweep to end.
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
    except Exception as error:  # no error may prevent the remaining jobs
        traceback.print_exc()
        job.fail(" ".join(f"{type(error).__name__}: {error}".split()), ExitCode.training_failed)
    if job.failure is not None:
        complain(f"job {job.number} failed: {job.failure}")
    job.duration_s = round(time.perf_counter() - begun, 3)
    job.save(folder)
    return job.objective


def _ended(job: Job, folder: Path) -> Job | None:
    """Returns the earlier record of the same job if the job ended without a failure, else None."""
    before = read_job(folder)
    same = before is not None and before.overrides == job.overrides and before.state is not State.failed
    return before if same else None
