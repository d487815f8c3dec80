"""Executes a plan: each phase in new processes, from the checkpoint of the previous one; then a summary."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from osftx.config.phase_spec import PhaseSpec
from osftx.config.phases import BASE_STATE
from osftx.config.run_layout import ANSWERS, BEFORE, BENCHMARKS, RESULTS, SAMPLES
from osftx.config.schema import ExperimentConfig
from osftx.errors import StoppedError, TrainingError
from osftx.evaluation.lm_eval.measure import Benchmarks
from osftx.launch.cluster import Cluster
from osftx.planning.preflight import Checked
from osftx.report import write_report
from osftx.results.show_retention import show_retention
from osftx.results.summarize import summarize
from osftx.runs.generated_answers import GeneratedAnswers
from osftx.runs.phase_runner import handed_on, obtain
from osftx.store.entries import PhaseStore
from osftx.store.fingerprint import of_phase, start_of
from osftx.utils.disk import refusal
from osftx.utils.files import expanded, write_json
from osftx.utils.masking import masked


def run(
    config: ExperimentConfig,
    checked: Checked,
    run_folder: Path,
    arguments: Sequence[str],
    cluster: Cluster,
    between_phases: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Trains and measures every phase of the plan; returns the content of `results.json`.

    `arguments` are the words after `python -m osftx` that repeat this run; `cluster` launches the ranks. results.json
    is written again after each phase, so that a later failure loses nothing. `between_phases` is called with its
    content after each phase but the last; an exception from it ends the run. Raises TrainingError if a phase fails.
    """
    assert checked.model_folder is not None
    finished: list[tuple[PhaseSpec, dict[str, Any]]] = []
    results: dict[str, Any] = {}
    store = PhaseStore(expanded(config.store_dir).resolve()) if config.reuse else None
    first = start_of(checked.model_folder, store)
    start = parent = first.fingerprint
    benchmarks = Benchmarks(config, checked.benchmarks, store)
    answers = GeneratedAnswers(config.evaluation.generation, checked.questions, store, cluster)
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
            if store is not None:
                spec.start_files = first.files if place == 1 else handed_on(spec, parent, store)
            if place == 1:
                benchmarks.measure(BASE_STATE, source, parent, folder / (BENCHMARKS + BEFORE))
                answers.measure(BASE_STATE, source, parent, spec, folder / (ANSWERS + BEFORE))
            result = obtain(spec, fingerprint, parent, store, config.checkpointing, cluster)
            benchmarks.measure(name, spec.checkpoint, fingerprint, folder / BENCHMARKS)
            answers.measure(name, spec.checkpoint, fingerprint, spec, folder / ANSWERS)
        except TrainingError as error:
            mended = "" if isinstance(error, StoppedError) else "once it is mended, "
            how = _how_to_go_on(config, name, source, arguments)
            raise type(error)(f"{error}\n  {mended}{how}") from error
        except OSError as error:  # this process could not write
            if (refused := refusal(error, folder)) is None:
                raise
            how = _how_to_go_on(config, name, source, arguments)
            raise TrainingError(f"phase {name!r}: {refused}\n  once it is mended, {how}") from error
        parent = fingerprint
        finished.append((spec, result))
        measured_beside = {"benchmarks": benchmarks.table(), **answers.tables()}
        results = masked(summarize(config, finished, run_folder, arguments, start, measured_beside, checked.skipped))
        answers.write(run_folder / SAMPLES)
        write_json(run_folder / RESULTS, results)
        _report(run_folder)
        show_retention(results)
        if between_phases is not None and place < len(phases):
            between_phases(results)
    return results


def _report(run_folder: Path) -> None:
    try:
        write_report(run_folder, own=True)
    except Exception as error:  # a failure to draw must not end the run
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: the report could not be written ({reason}); results.json holds its numbers", flush=True)


def _how_to_go_on(config: ExperimentConfig, phase: str, source: Path, arguments: Sequence[str]) -> str:
    if config.reuse:
        return "give the same command again to go on from there: what is done is reused"
    replaced = re.compile(r"\+*(output_dir|phases\.[^.=]+\.init_from)=.*")  # as a run starts at one phase
    overrides = [word for word in arguments if not replaced.fullmatch(word)]
    command = shlex.join([*overrides, f"phases.{phase}.init_from={source}"])
    return f"go on from there with: python -m osftx {command}"
