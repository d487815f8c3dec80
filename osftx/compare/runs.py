"""Finds and reads the runs to compare, in run folders or sweep folders. Reports all problems at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from osftx.config.run_layout import JOB, PLAN, RESULTS
from osftx.errors import ConfigurationError
from osftx.results.run_record import RunRecord
from osftx.results.whole_run import read_whole_run, why_unfinished


@dataclass
class LabelledRun:
    """A run to compare, with the label of its group."""

    run: RunRecord
    label: str | None = None
    """Label of the run's group as given on the command line; None if none was given."""


def read_runs(
    given: list[Path], labelled: list[tuple[str, Path]], known: Sequence[str] = ()
) -> tuple[list[LabelledRun], list[str]]:
    """Returns the runs in the order given, runs that only `labelled` names last, and the jobs that were left out.

    Raises ConfigurationError with every problem, beginning with those already `known`.
    """
    problems = list(known)
    left_out: list[str] = []
    labels: dict[Path, str] = {}
    first_named: dict[Path, Path] = {}
    runs: list[LabelledRun] = []

    def name(path: Path, label: str | None) -> None:
        found, skipped, wrong = run_folders(path)
        problems.extend(wrong)
        left_out.extend(text for text in skipped if text not in left_out)
        for folder in found:
            real = folder.resolve()
            if label is not None:
                if labels.setdefault(real, label) != label:
                    problems.append(f"--label {label}={path}: {folder} has the label {labels[real]} already; give one")
                first_named.setdefault(real, folder)
            elif real in first_named:
                problems.append(f"{folder}: given twice; leave one out")
            else:
                first_named[real] = folder

    for path in given:
        name(path, None)
    for label, path in labelled:
        name(path, label)
    for real, folder in first_named.items():
        try:
            runs.append(LabelledRun(read_whole_run(folder), labels.get(real)))
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)
    return runs, left_out


def run_folders(path: Path) -> tuple[list[Path], list[str], list[str]]:
    """Returns (folders of finished runs, jobs left out with the reason, problems) for a run or a sweep folder.

    The folder of a single run is returned whether the run is finished or not.
    """
    if not path.is_dir():
        return [], [], [f"{path}: there is no such folder; give the folder of a run or of a sweep"]
    if any((path / name).exists() for name in (RESULTS, PLAN)):
        return [path], [], []
    jobs = sorted(
        (inner for inner in path.iterdir() if any((inner / name).exists() for name in (PLAN, JOB, RESULTS))),
        key=lambda inner: (not inner.name.isdigit(), int(inner.name) if inner.name.isdigit() else 0, inner.name),
    )
    reasons = {job: why_unfinished(job) for job in jobs}
    finished = [job for job, reason in reasons.items() if reason is None]
    left_out = [f"{job} is left out: {reason}" for job, reason in reasons.items() if reason is not None]
    if finished:
        return finished, left_out, []
    if jobs:
        return [], [], [f"{path}: none of its {len(jobs)} jobs was done; resume the sweep (sweep.resume={path})"]
    return [], [], [f"{path}: neither a run nor a sweep, it has no {RESULTS}; give the folder that a run has named"]
