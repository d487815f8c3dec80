"""How long a run will take: begin each phase for real, for some steps, and count the rest from their pace."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from osftx.config.phase_spec import PhaseSpec
from osftx.config.phases import phases_to_run
from osftx.config.run_layout import LOGS, PHASE_RESULT
from osftx.config.schema import ExperimentConfig, PhaseConfig
from osftx.config.steps import validation_steps
from osftx.errors import TrainingError
from osftx.launch.cluster import Cluster
from osftx.planning.estimate.duration import Duration, Pace, duration
from osftx.planning.phase_specs import phase_specs
from osftx.planning.plan import PlannedPhase
from osftx.planning.preflight import Checked
from osftx.utils.files import nearest

STEPS = 4
"""Behind a first one, which is slower."""


def calibrate(config: ExperimentConfig, checked: Checked, cluster: Cluster) -> None:
    """Fills in `duration` of every phase of the plan; `cluster` launches the ranks.

    All phases start from the first model, which is as large as every later one, and measure anew which inputs are
    preserved; both take as long as in the run. Everything is written beside the store, one phase at a time, and removed
    again, except the logs of ranks that failed. Raises TrainingError if a phase cannot be started.
    """
    disk = nearest(config.store_dir)  # that of the run, if it can be written
    with TemporaryDirectory(prefix=".osftx-calibration-", dir=disk if os.access(disk, os.W_OK) else None) as scratch:
        for spec, planned, (_, _, phase) in zip(
            _specs(config, checked, Path(scratch)), checked.plan.phases, phases_to_run(config), strict=True
        ):
            planned.duration = _duration(spec, config, checked, planned, phase, cluster)
            shutil.rmtree(spec.folder)  # with its checkpoint


def _specs(config: ExperimentConfig, checked: Checked, scratch: Path) -> Iterator[PhaseSpec]:
    specs = phase_specs(config, checked, scratch)
    preserve = next((spec.preserve for spec in specs if spec.preserve is not None), None)
    for spec in specs:
        spec.model.path = specs[0].model.path
        spec.preserve = preserve if spec.preserve is not None else None
        yield replace(spec, evaluation_sets={}, evaluate_before=False, calibration_steps=STEPS)


def _duration(
    spec: PhaseSpec,
    config: ExperimentConfig,
    checked: Checked,
    planned: PlannedPhase,
    phase: PhaseConfig,
    cluster: Cluster,
) -> Duration:
    print(f"\nTiming a first step and {STEPS} more of phase {spec.name}", flush=True)
    spec.save()
    begun = time.monotonic()
    _launch(spec, cluster)
    wall_s = time.monotonic() - begun
    found = json.loads((Path(spec.folder) / PHASE_RESULT).read_text())
    found["start_s"] += wall_s - found.pop("duration_s")  # the start of the processes, and their end
    pace = Pace(**found)
    return duration(pace, planned.tokens * phase.num_epochs, _measured_tokens(config, checked, planned, phase))


def _launch(spec: PhaseSpec, cluster: Cluster) -> None:
    """Runs the ranks. If they fail, their logs are kept where the error names them."""
    try:
        cluster.launch(spec)
    except TrainingError as error:
        logs = str(Path(spec.folder) / LOGS)
        if logs not in str(error):
            raise
        kept = mkdtemp(prefix="osftx-logs-")
        shutil.copytree(logs, kept, dirs_exist_ok=True)
        raise TrainingError(str(error).replace(logs, kept)) from error


def _measured_tokens(config: ExperimentConfig, checked: Checked, planned: PlannedPhase, phase: PhaseConfig) -> int:
    """Tokens that the phase reads without training on them."""
    sets = [checked.read[f"evaluation.sets.{name}"].summary.tokens for name in config.evaluation.sets]
    times = 1 + (planned is checked.plan.phases[0])
    if config.evaluation.every_steps is not None:
        times += planned.steps // config.evaluation.every_steps
    validated = planned.validated * planned.tokens // max(planned.samples, 1)  # samples as long as those of the phase
    validations = len(validation_steps(phase.validation, phase, planned.samples)) if planned.validated else 0
    most = config.preserve.max_tokens
    own = min(planned.tokens, most)
    # Before the first step the shares that are free, afterwards the inputs that are kept.
    inputs = 2 * own + sum(min(tokens, most) for tokens in sets) if planned.keeps is not None else 0
    return sum(sets) * times + validated * validations + inputs
