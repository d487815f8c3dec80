"""Walk the plan: each phase in fresh processes, from the checkpoint of the one before, and sum up what was kept."""

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from osftx.config.objective import as_list, value
from osftx.config.phase_spec import PhaseSpec
from osftx.config.phases import BASE_STATE, phases_to_run, taught_in
from osftx.config.run_layout import BEFORE, BENCHMARKS, RESULTS
from osftx.config.schema import ExperimentConfig
from osftx.errors import StoppedError, TrainingError
from osftx.evaluation.lm_eval.measure import Benchmarks
from osftx.launch.cluster import Cluster
from osftx.planning.preflight import Checked
from osftx.report import write_report
from osftx.results.retention import summary, table
from osftx.results.show_retention import show_retention
from osftx.runs.phase_runner import obtain
from osftx.store.entries import PhaseStore
from osftx.store.fingerprint import of_phase, start_fingerprint
from osftx.utils.files import write_json

PACKAGES = ("osftx", "torch", "transformers", "deepspeed", "datasets", "hydra-core", "liger-kernel", "lm-eval")


def run(
    config: ExperimentConfig,
    checked: Checked,
    run_folder: Path,
    arguments: Sequence[str],
    cluster: Cluster,
    between_phases: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train and measure every phase of the plan; returns what `results.json` holds.

    `arguments` are the words after `python -m osftx` that give this run again; `cluster` launches the ranks.
    results.json is written anew after each phase, so a later failure loses nothing. `between_phases` is given its
    content while a phase is still to come; what it raises ends the run. Raises TrainingError.
    """
    assert checked.model_folder is not None
    finished: list[tuple[PhaseSpec, dict[str, Any]]] = []
    results: dict[str, Any] = {}
    store = PhaseStore(Path(config.store_dir).expanduser().resolve()) if config.reuse else None
    start = parent = start_fingerprint(checked.model_folder, store)
    benchmarks = Benchmarks(config, checked.benchmarks, store)
    phases = checked.plan.phases
    for place, planned in enumerate(phases, start=1):
        spec = planned.ready()
        name, folder, source = spec.name, Path(spec.folder), Path(spec.model.path)
        fingerprint = of_phase(spec, parent)
        print(
            f"\nPhase {place} of {len(phases)}: {name}, {planned.steps} steps on "
            f"{config.distributed.nproc_per_node * config.distributed.nnodes} ranks",
            flush=True,
        )
        try:
            if place == 1:
                benchmarks.measure(BASE_STATE, source, parent, folder / (BENCHMARKS + BEFORE))
            result = obtain(spec, fingerprint, parent, store, config.checkpointing, cluster)
            benchmarks.measure(name, spec.checkpoint, fingerprint, folder / BENCHMARKS)
        except TrainingError as error:
            mended = "" if isinstance(error, StoppedError) else "once it is mended, "
            how = _how_to_go_on(config, name, source, arguments)
            raise type(error)(f"{error}\n  {mended}{how}") from error
        parent = fingerprint
        finished.append((spec, result))
        results = collect(config, finished, run_folder, arguments, start, benchmarks.table())
        results["skipped_rows"] = _skipped_rows(checked)
        write_json(run_folder / RESULTS, results)
        _report(run_folder)
        show_retention(results)
        if between_phases is not None and place < len(phases):
            between_phases(results)
    return results


def collect(
    config: ExperimentConfig,
    finished: Sequence[tuple[PhaseSpec, dict[str, Any]]],
    run_folder: Path,
    arguments: Sequence[str],
    start: str,
    benchmarks: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of results.json after the phases that are `finished` (spec and result.json of each).

    `start` is the fingerprint of the model that the first of them started from.
    """
    states = [BASE_STATE, *(spec.name for spec, _ in finished)]
    measured = {spec.name: result["evaluation"] for spec, result in finished}
    measured[BASE_STATE] = finished[0][1]["evaluation_before"]
    sets = list(config.evaluation.sets)
    retention = table(states, sets, measured) | ({"benchmarks": benchmarks} if benchmarks else {})
    # A phase that was skipped has taught the run's base state; one that is still to come has not taught anything.
    to_come = {name for _, name, _ in phases_to_run(config)} - set(states)
    taught = {name: taught_in(config, name) for name in sets}
    known = [place for place, name in enumerate(sets) if taught[name] not in to_come]
    rows = [states.index(taught[sets[place]]) if taught[sets[place]] in states else 0 for place in known]
    accuracy = [[row[place] for place in known] for row in retention["metrics"]["exact_match"]]
    results: dict[str, Any] = {
        "experiment": config.name,
        "objective": None,
        "start": start,
        "phases": [
            _phase(spec, result, run_folder) | {"curve": _curve(result, measured[before])}
            for (spec, result), before in zip(finished, states, strict=False)
        ],
        "retention": retention,
        "summary": summary(accuracy, rows),
        "command": shlex.join([Path(sys.executable).name, "-m", "osftx", *arguments]),
        "versions": _versions(),
    }
    found = [value(results, objective) for objective in as_list(config.objective)]
    results["objective"] = found[0] if isinstance(config.objective, str) else found
    return results


def _curve(result: dict[str, Any], before: dict[str, Any]) -> list[dict[str, Any]]:
    """What the sets scored from the state before the phase to the one that it leaves; empty unless measured in
    between. The latter may be an earlier one than the last."""
    if result.get("curve") is None:
        return []
    last = (result.get("validation") or {}).get("checkpoint_step", result["steps"])
    between = [point for point in result["curve"] if point["step"] < last]
    return [{"step": 0, "evaluation": before}, *between, {"step": last, "evaluation": result["evaluation"]}]


def _phase(spec: PhaseSpec, result: dict[str, Any], run_folder: Path) -> dict[str, Any]:
    targets = result["targets"]
    worst = max(targets, key=lambda target: target["leak_saved"], default=None)
    return {
        "name": spec.name,
        "method": spec.method,
        "unfreeze_rank_ratio": spec.unfreeze_rank_ratio,
        "checkpoint": str(spec.checkpoint.relative_to(run_folder)),
        "fingerprint": result["fingerprint"],
        "reused": result["reused"],
        "steps": result["steps"],
        "tokens": result["tokens"],
        "duration_s": result["duration_s"],
        "validation": result.get("validation"),
        "fill": result.get("fill"),
        "preservation": {
            "leak_fp32": max((target["leak_fp32"] for target in targets), default=None),
            "leak_saved": worst["leak_saved"] if worst else None,
            "worst_weight": worst["name"] if worst else None,
            "free_input_share": _largest(targets, "free_input_share"),
            "kept_output_change": _largest(targets, "kept_output_change"),
            "update_kept": _update_kept(targets),
            "free_shares": _free_shares(spec, result),
        },
    }


def _free_shares(spec: PhaseSpec, result: dict[str, Any]) -> dict[str, Any] | None:
    """Those of `foresight.free_shares`, with the sets by name; without those that a reused phase did not know."""
    if (shares := result.get("free_shares")) is None:
        return None
    sets = {name: shares["sets"].get(Path(path).name) for name, path in spec.evaluation_sets.items()}
    return {"taught": shares["taught"], "sets": {name: share for name, share in sets.items() if share is not None}}


def _largest(targets: list[dict[str, Any]], key: str) -> float | None:
    return max((target[key] for target in targets if target[key] is not None), default=None)


def _update_kept(targets: Sequence[dict[str, Any]]) -> float | None:
    """Over all targets together: how much of the update is in the saved weights (`training/export.py`)."""
    trained = [target for target in targets if target["update_kept"] is not None]
    squared = sum(target["update_norm"] ** 2 for target in trained)
    return sum(target["update_kept"] * target["update_norm"] ** 2 for target in trained) / squared if trained else None


def _skipped_rows(checked: Checked) -> list[dict[str, Any]]:
    """Rows that were left out, by setting: how many, and the first of them."""
    return [
        {"setting": setting, "rows": summary.skipped, "first": [row._asdict() for row in summary.skipped_rows]}
        for setting, summary in checked.skipped.items()
    ]


def _versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # liger-kernel is for Linux alone, lm-eval an extra
            installed[package] = version(package)
    return installed


def _report(run_folder: Path) -> None:
    try:
        write_report(run_folder)
    except Exception as error:  # whatever a drawing library raises must not cost the phases still to come
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: the report could not be written ({reason}); results.json holds its numbers", flush=True)


def _how_to_go_on(config: ExperimentConfig, phase: str, source: Path, arguments: Sequence[str]) -> str:
    if config.reuse:
        return "give the same command again to go on from there: what is done is reused"
    replaced = re.compile(r"\+*(output_dir|phases\.[^.=]+\.init_from)=.*")  # a run starts at one phase
    overrides = [word for word in arguments if not replaced.fullmatch(word)]
    command = shlex.join([*overrides, f"phases.{phase}.init_from={source}"])
    return f"go on from there with: python -m osftx {command}"
