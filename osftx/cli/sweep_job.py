"""One job of a sweep: a run that leaves a record of how it ended."""

import time
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import DictConfig

from osftx.cli.conf_folder import CONFIG_NAME
from osftx.cli.run import run
from osftx.config.run_layout import JOB_OUTPUT
from osftx.launch.cluster import Cluster
from osftx.results.job_record import Job, Objective
from osftx.results.sweep_reader import read_job
from osftx.sweep.job import run_job
from osftx.sweep.parallel import in_parallel, own_output
from osftx.sweep.pruning import between_phases
from osftx.sweep.resume import RESUME, mask_settings
from osftx.utils.masking import mask_override


def run_sweep_job(composed: DictConfig, hydra_config: HydraConf, cluster: Cluster) -> Objective:
    """Runs one job, unless it was done before the sweep was resumed; returns its objective.

    A failure is recorded and does not end the sweep. Raises StoppedError, which ends it.
    """
    if in_parallel(hydra_config) and not composed.dry_run:
        return _with_own_output(composed, hydra_config, cluster)
    return _recorded(composed, hydra_config, cluster)


def _recorded(composed: DictConfig, hydra_config: HydraConf, cluster: Cluster) -> Objective:
    """Runs the job and leaves its record; returns its objective."""
    folder = Path(hydra_config.runtime.output_dir)
    mask_settings(Path(hydra_config.sweep.dir))
    pruning = between_phases(hydra_config.sweeper, Path(hydra_config.sweep.dir))
    return run_job(
        Job(hydra_config.job.num, [mask_override(word) for word in _overrides(hydra_config)]),
        folder,
        lambda: run(composed, _arguments(hydra_config), cluster, sweep_job=folder, between_phases=pruning),
        resumed=composed.sweep.resume is not None,
    )


def _with_own_output(composed: DictConfig, hydra_config: HydraConf, cluster: Cluster) -> Objective:
    """Runs one of several concurrent jobs. Its output goes to a file; the screen shows a line at its start and end."""
    number, folder = hydra_config.job.num, Path(hydra_config.runtime.output_dir)
    log, start = folder / JOB_OUTPUT, time.monotonic()
    with own_output(log) as screen:
        words = " ".join(mask_override(word) for word in _overrides(hydra_config))
        print(f"Job {number} starts, output in {log}: {words}", file=screen, flush=True)
        outcome = "stopped"
        try:
            objective = _recorded(composed, hydra_config, cluster)
            record = read_job(folder)
            outcome = record.state.value if record is not None else "ended without a record"
        finally:
            print(f"Job {number} {outcome} after {time.monotonic() - start:.0f} s", file=screen, flush=True)
    return objective


def _overrides(hydra_config: HydraConf) -> list[str]:
    """Returns the overrides that make this job, which are the same whether its sweep is resumed or not."""
    return [word for word in hydra_config.overrides.task if not word.startswith(f"{RESUME}=")]


def _arguments(hydra_config: HydraConf) -> list[str]:
    """Returns the words after `python -m osftx` that run this job on its own.

    They cannot be read from the command line, which is a different one in a launcher's process.
    """
    words = []
    if (name := hydra_config.job.config_name) is not None and name != CONFIG_NAME:
        words += ["--config-name", name]
    for source in hydra_config.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", source.path]
    words += [word for word in hydra_config.overrides.hydra if word.lstrip("+").startswith("hydra.searchpath=")]
    return [*words, *_overrides(hydra_config)]
