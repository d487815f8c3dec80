"""Measures how long a run will take: each phase runs for a few steps, whose pace is extrapolated."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import LOGS, PHASE_RESULT, phase_folder
from osftx.config.schema import ExperimentConfig
from osftx.config.steps import validation_steps
from osftx.errors import TrainingError
from osftx.launch.cluster import Cluster
from osftx.planning.estimate.duration import Duration, Pace, duration
from osftx.planning.plan import PlannedPhase
from osftx.planning.preflight import Checked
from osftx.utils.files import nearest

STEPS = 4
"""Number of timed steps of each phase, after a first step, which is slower."""


def calibrate(config: ExperimentConfig, checked: Checked, cluster: Cluster) -> list[Duration]:
    """Returns how long each phase of the plan will take; `cluster` launches the ranks.

    All phases start from the start model of the run, which is as large as every later model, and measure the input
    covariance of the preserve set again; both take as long as in the run. Everything is written beside the store, one
    phase at a time, and removed again, except the logs of ranks that failed. Raises TrainingError if a phase cannot be
    started.
    """
    disk = nearest(config.store_dir)  # the disk of the run, if it can be written
    durations = []
    with TemporaryDirectory(prefix=".osftx-calibration-", dir=disk if os.access(disk, os.W_OK) else None) as scratch:
        for planned in _from_the_start_model(checked.plan.phases, Path(scratch)):
            durations.append(_duration(planned, config, checked, cluster))
            shutil.rmtree(phase_folder(Path(scratch), planned.index, planned.name))  # frees the space of its checkpoint
    return durations


def _from_the_start_model(phases: Sequence[PlannedPhase], scratch: Path) -> Iterator[PlannedPhase]:
    """Yields the phases with the specs under which they are timed."""
    specs = [phase.spec for phase in phases if phase.spec is not None]
    preserve = next((spec.preserve for spec in specs if spec.preserve is not None), None)
    for planned, spec in zip(phases, specs, strict=True):
        folder = phase_folder(scratch, spec.index, spec.name)
        held_out = planned.data.held_out if planned.data is not None else None
        timed = replace(
            spec,
            model=replace(spec.model, path=specs[0].model.path),
            folder=str(folder),
            preserve=preserve if spec.preserve is not None else None,
            validation=held_out.spec(folder) if held_out is not None else None,
            evaluation_sets={},
            evaluate_before=False,
            calibration_steps=STEPS,
        )
        yield replace(planned, spec=timed)


def _duration(planned: PlannedPhase, config: ExperimentConfig, checked: Checked, cluster: Cluster) -> Duration:
    print(f"\nTiming a first step and {STEPS} more of phase {planned.name}", flush=True)
    spec = planned.ready()
    begun = time.monotonic()
    _launch(spec, cluster)
    wall_s = time.monotonic() - begun
    found = json.loads((Path(spec.folder) / PHASE_RESULT).read_text(encoding="utf-8"))
    found["start_s"] += wall_s - found.pop("duration_s")  # the time in which the processes start and end
    pace = Pace(**found)
    trained = planned.tokens * spec.training.num_epochs
    return duration(pace, trained, _measured_tokens(config, checked, planned))


def _launch(spec: PhaseSpec, cluster: Cluster) -> None:
    """Runs the ranks. If they fail, copies the logs named in the TrainingError, so that they remain, and raises it."""
    try:
        cluster.launch(spec)
    except TrainingError as error:
        logs = str(Path(spec.folder) / LOGS)
        if logs not in str(error):
            raise
        kept = mkdtemp(prefix="osftx-logs-")
        shutil.copytree(logs, kept, dirs_exist_ok=True)
        raise TrainingError(str(error).replace(logs, kept)) from error


def _measured_tokens(config: ExperimentConfig, checked: Checked, planned: PlannedPhase) -> int:
    """Returns the number of tokens that the phase reads without training on them."""
    assert planned.outline is not None
    phase = planned.outline.config
    sets = [checked.read[f"evaluation.sets.{name}"].summary.tokens for name in config.evaluation.sets]
    times = 1 + (planned.name == checked.plan.phases[0].name)
    if config.evaluation.every_steps is not None:
        times += planned.steps // config.evaluation.every_steps
    # Validation samples are assumed to be as long as those of the phase.
    validated = planned.validated * planned.tokens // max(planned.samples, 1)
    validations = len(validation_steps(phase.validation, phase, planned.samples)) if planned.validated else 0
    most = config.preserve.max_tokens
    own = min(planned.tokens, most)
    # The subspace overlap is measured before the first step, the input covariance after the last one.
    inputs = 2 * own + sum(min(tokens, most) for tokens in sets) if planned.keeps is not None else 0
    return sum(sets) * times + validated * validations + inputs
