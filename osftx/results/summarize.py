"""Assembles the content of `results.json`: the phases, the retention table, its figures, and the command of the run."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from osftx.config.objective import as_list, value
from osftx.config.phase_spec import PhaseSpec
from osftx.config.phases import BASE_STATE, phases_to_run, sets_to_keep, taught_in
from osftx.config.schema import ExperimentConfig
from osftx.data.samples import DataSummary
from osftx.results.phase_summary import curve, phase_summary
from osftx.results.retention import summary, table

PACKAGES = ("osftx", "torch", "transformers", "deepspeed", "datasets", "hydra-core", "liger-kernel", "lm-eval")

Finished = Sequence[tuple[PhaseSpec, dict[str, Any]]]
"""The finished phases in order, each with its spec and the content of its `result.json`."""


def summarize(
    config: ExperimentConfig,
    finished: Finished,
    run_folder: Path,
    arguments: Sequence[str],
    start: str,
    measured_beside: Mapping[str, dict[str, Any] | None],
    skipped: Mapping[str, DataSummary],
) -> dict[str, Any]:
    """Returns the content of results.json after the `finished` phases, of which there is at least one.

    `arguments` are the words after `python -m osftx` that repeat the run. `start` is the fingerprint of the model from
    which the first phase started. `measured_beside` are the entries of `retention` that are measured beside the
    evaluation sets, by name; None where nothing is measured. `skipped` is the data from which rows were left out or in
    which they were adjusted, by setting.
    """
    states = [BASE_STATE, *(spec.name for spec, _ in finished)]
    measured = {spec.name: result["evaluation"] for spec, result in finished}
    measured[BASE_STATE] = finished[0][1]["evaluation_before"]
    retention = table(states, list(config.evaluation.sets), measured) | {
        name: entry for name, entry in measured_beside.items() if entry is not None
    }
    results: dict[str, Any] = {
        "experiment": config.name,
        "objective": None,
        "start": start,
        "phases": [
            phase_summary(spec, result, run_folder) | {"curve": curve(result, measured[before])}
            for (spec, result), before in zip(finished, states, strict=False)
        ],
        "retention": retention,
        "summary": _figures(config, retention),
        "command": shlex.join([Path(sys.executable).name, "-m", "osftx", *arguments]),
        "versions": _versions(),
        "skipped_rows": _skipped_rows(skipped),
        "adjusted_rows": [
            {"setting": setting, "adjusted": data.adjusted} for setting, data in skipped.items() if data.adjusted
        ],
    }
    found = [value(results, objective) for objective in as_list(config.objective)]
    results["objective"] = found[0] if isinstance(config.objective, str) else found
    return results


def _figures(config: ExperimentConfig, retention: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns the summary figures of the retention table, without the sets of phases that are still to come."""
    sets, states = retention["sets"], retention["states"]
    to_come = (name for _, name, _ in phases_to_run(config) if name not in states)
    known = sets_to_keep(config, next(to_come, None))
    teachers = [taught_in(config, name) for name in known]
    # The first state of the run already knows what skipped phases taught.
    rows = [states.index(teacher) if teacher in states else 0 for teacher in teachers]
    columns = [sets.index(name) for name in known]
    accuracy = [[row[column] for column in columns] for row in retention["metrics"]["exact_match"]]
    return summary(accuracy, rows)


def _skipped_rows(skipped: Mapping[str, DataSummary]) -> list[dict[str, Any]]:
    """Returns the number of rows left out for each setting, and the first of these rows."""
    return [
        {"setting": setting, "rows": data.skipped, "first": [row._asdict() for row in data.skipped_rows]}
        for setting, data in skipped.items()
        if data.skipped
    ]


def _versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # liger-kernel exists only for Linux, lm-eval is an extra
            installed[package] = version(package)
    return installed
