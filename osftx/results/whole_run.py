"""Reads a run that must be complete: all phases done, and files that agree with each other."""

from pathlib import Path

from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from osftx.config.phases import phases_to_run
from osftx.config.run_layout import CONFIG, PLAN, RESULTS
from osftx.errors import ConfigurationError
from osftx.results.run_reader import phases_done, read_run
from osftx.results.run_record import Json, RunRecord

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError)
"""Errors raised for a file that is missing, truncated or of another structure."""


def read_whole_run(folder: Path) -> RunRecord:
    """Returns the record of a finished run, in which everything that a comparison reads is known to exist.

    Raises ConfigurationError for a run that ended early, and for files that are missing, damaged or disagree.
    """
    if (reason := why_unfinished(folder)) is not None:
        raise ConfigurationError([f"{folder}: {reason}; give the run's command again, or leave it out"])
    try:
        run = read_run(folder)
        _check(run)
    except (*UNREADABLE, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            [f"{folder}: cannot be read ({type(error).__name__}: {reason}); is it whole, and of this version of osftx?"]
        ) from error
    return run


def why_unfinished(folder: Path) -> str | None:
    """Returns why the run is not done; None if it is done, or if its files cannot be read.

    `read_whole_run` reports files that cannot be read.
    """
    if not (folder / RESULTS).exists():
        return f"no {RESULTS}, the run ended early or is not done"
    try:
        done, planned = phases_done(folder)
    except UNREADABLE:
        return None
    return f"the run ended early or is not done: {done} of {planned} phases" if done < planned else None


def _check(run: RunRecord) -> None:
    """Checks that the record is complete.

    Raises KeyError or FileNotFoundError for a missing part, ValueError for parts that disagree.
    """
    _check_phases(run)
    _check_numbers(run)
    retention, _, _ = (run.results[key] for key in ("retention", "summary", "start"))
    _check_retention(run, retention)
    _ = run.training_s, run.peak_memory_gb, run.devices
    contents = run.contents
    if missing := [name for name in run.phase_names if f"phases.{name}.data.path" not in contents]:
        raise ValueError(f"phases/*_{missing[0]}/phase.yaml is missing, which tells the data")


def _check_phases(run: RunRecord) -> None:
    finished = [phase["name"] for phase in run.results["phases"]]
    configured = [name for _, name, _ in phases_to_run(run.config)]
    _ = run.ratios
    if not finished == run.phase_names == configured:
        raise ValueError(f"{RESULTS}, {PLAN} and {CONFIG} are of different phases")
    for phase in run.results["phases"]:
        _ = [phase[key] for key in ("name", "reused", "steps", "tokens")]


def _check_retention(run: RunRecord, retention: Json) -> None:
    sets = retention["sets"]
    if unknown := set(sets) - run.config.evaluation.sets.keys():
        raise ValueError(f"{CONFIG} has no evaluation set {', '.join(sorted(unknown))}")
    for phase in run.phases:
        for state in phase.curve:
            if missing := set(sets) - state["evaluation"].keys():
                raise ValueError(f"the curve of {phase.name} lacks {missing.pop()} at step {state['step']}")
    for metric in ("exact_match", "loss"):
        rows = retention["metrics"][metric]
        if any(len(row) != len(sets) for row in rows):
            raise ValueError(f"a row of retention.metrics.{metric} is not of {len(sets)} sets")
        if len(rows) != len(run.phases) + 1:
            raise ValueError(f"retention.metrics.{metric} has not one row a phase, and one for the base")


def _check_numbers(run: RunRecord) -> None:
    """Checks that what a comparison computes with are numbers, and what it shows are words. Raises ValueError."""
    for phase in run.phases:
        _number(phase.plan["unfreeze_rank_ratio"], f"the ratio of {phase.name}", missing=True)
        for key in ("steps", "tokens"):
            _number(phase.result[key], f"{key} of {phase.name}")
        for step in phase.steps:
            for key, value in step.items():
                _number(value, f"{key} in the metrics of {phase.name}", missing=True)
        for state in phase.curve:
            _number(state["step"], f"a step of the curve of {phase.name}")
            for figures in state["evaluation"].values():
                _number(figures["exact_match"], f"the curve of {phase.name}")
        if phase.record is not None:
            _word(phase.record["device"], f"device of {phase.name}")
            _number(phase.record["world_size"], f"world_size of {phase.name}")
    for name in run.retention["sets"]:
        _word(name, "the name of an evaluation set")
    for row in run.retention["metrics"]["exact_match"]:
        for value in row:
            _number(value, "retention.metrics.exact_match")
    for name, value in run.summary.items():
        _number(value, f"summary.{name}", missing=True)
    _word(run.plan["name"], "the name of the plan")


def _number(value: object, what: str, missing: bool = False) -> None:
    if not (isinstance(value, int | float) or (missing and value is None)):
        raise ValueError(f"{what} is {str(value)[:40]!r}, not a number")


def _word(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{what} is {str(value)[:40]!r}, not a name")
