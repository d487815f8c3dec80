"""Checks, plans and runs one composed configuration."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf

from osftx.cli.hydra_errors import reaching_every_phase
from osftx.config.identity import Use, counting
from osftx.config.load import typed
from osftx.config.run_layout import CONFIG, PLAN, REPORT
from osftx.config.schema import ExperimentConfig
from osftx.errors import ConfigurationError, TrainingError
from osftx.launch.cluster import Cluster
from osftx.launch.gpus import check_devices
from osftx.launch.outer_launcher import Outer, outer_launcher, placed
from osftx.planning.validate import problems
from osftx.runs.run_folder import alone_in, dated, make_run_folder, remove_empty
from osftx.utils.console import leave
from osftx.utils.disk import refusal
from osftx.utils.files import write_json, write_text
from osftx.utils.masking import mask_override, masked, sealed

# Modules that are slow to import are imported inside the functions, after the settings have been checked.

BetweenPhases = Callable[[dict[str, Any]], None]


def run(
    composed: DictConfig,
    arguments: list[str],
    cluster: Cluster,
    sweep_job: Path | None = None,
    between_phases: BetweenPhases | None = None,
) -> dict[str, Any] | None:
    """Checks, plans and runs one composed configuration; returns the content of results.json.

    Returns None if nothing is trained in this process: after a dry run, after `inspect_data`, and on nodes other than
    the first.

    Args:
        composed: the configuration as composed by Hydra.
        arguments: the words after `python -m osftx` that repeat the run.
        cluster: launches the ranks.
        sweep_job: the folder of this job of a sweep; None for a single run.
        between_phases: called with the results after each phase but the last; an exception that it raises ends the run.

    Raises:
        ConfigurationError: before anything is started.
        TrainingError: afterwards.
    """
    outer = outer_launcher(os.environ)
    config = _checked_settings(composed, outer, arguments)
    only_shows = config.dry_run or config.inspect_data is not None
    if only_shows and outer is not None and outer.rank > 0:
        return None  # only the first process of the launcher shows it
    asked = _run_settings(composed)
    if config.dry_run and config.output_dir is not None:  # the default folder may be on another machine
        remove_empty(make_run_folder(config, Path(config.output_dir), asked)[1])
    if config.dry_run and not config.plan.calibrate:
        _show_plan(config)
        return None
    if config.inspect_data is not None:
        _show_data(config, config.inspect_data, in_sweep=sweep_job is not None)
        return None
    ended = cluster.meet(config.distributed, OmegaConf.to_container(composed), config.model.trust_remote_code)
    if ended is not None:
        if ended.code:
            leave(ended.message, ended.code)
        return None
    check_devices(config.distributed, any(phase.use_liger for phase in config.phases.values()))
    if config.dry_run:
        _show_timed_plan(config, cluster)
        return None
    usual = dated(Path("outputs") / config.name) if sweep_job is None else sweep_job
    run_folder, made = make_run_folder(config, usual, asked)
    try:
        with alone_in(run_folder):
            results = _train(config, run_folder, asked, arguments, cluster, between_phases)
    except ConfigurationError:
        remove_empty(made)
        raise
    except OSError as error:  # of this process: what ranks cannot write is a TrainingError already
        if (refused := refusal(error, run_folder)) is None:
            raise
        remove_empty(made)
        raise TrainingError(f"{refused}; then give the same command again") from error
    print(f"\nRun folder: {run_folder}\nReport:     {run_folder / REPORT}")
    return results


def _checked_settings(composed: DictConfig, outer: Outer | None, arguments: list[str]) -> ExperimentConfig:
    """Returns the settings, with this process's place in an outer launcher.

    Raises ConfigurationError if they are wrong.
    """
    config = typed(composed)
    config.distributed = placed(config.distributed, outer, arguments)
    if found := [*reaching_every_phase(arguments), *problems(config)]:
        raise ConfigurationError(found)
    return config


def _run_settings(composed: DictConfig) -> str:
    """Returns the settings of the run as YAML, without secrets and without `sweep`, which a resumed sweep changes."""
    settings = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "sweep"])
    content = OmegaConf.to_container(settings)
    assert isinstance(content, dict)
    shown = masked(content)
    text = OmegaConf.to_yaml(settings if shown == content else OmegaConf.create(shown))
    seal = sealed(counting({str(key): value for key, value in content.items()}, Use.RUN))
    return f"{seal}\n{text}" if seal else text


def _show_plan(config: ExperimentConfig) -> None:
    from osftx.planning.preflight import check
    from osftx.planning.show_plan import show_plan

    show_plan(check(config, None).plan)


def _show_data(config: ExperimentConfig, samples: int, in_sweep: bool) -> None:
    from osftx.cli.inspect_data import show_data
    from osftx.planning.preflight import check

    if in_sweep:
        raise ConfigurationError([f"inspect_data={samples}: shows the data of one run; leave out -m"])
    with TemporaryDirectory(prefix="osftx-data-") as scratch:  # used if the data cannot be kept for the run itself
        show_data(check(config, Path(scratch), fetch_model=False), samples)


def _show_timed_plan(config: ExperimentConfig, cluster: Cluster) -> None:
    """Shows the plan with durations, for which it executes some steps of each phase."""
    from osftx.planning.calibration import calibrate
    from osftx.planning.preflight import check
    from osftx.planning.resources import lacking
    from osftx.planning.show_plan import show_plan

    with TemporaryDirectory(prefix="osftx-data-") as scratch:
        checked = check(config, Path(scratch))
        plan = checked.plan.with_warnings(lacking(config, checked.plan.phases, None))
        plan = plan.with_durations(calibrate(config, checked, cluster))
    show_plan(plan)


def _train(
    config: ExperimentConfig,
    run_folder: Path,
    asked: str,
    arguments: list[str],
    cluster: Cluster,
    between_phases: BetweenPhases | None,
) -> dict[str, Any]:
    """Checks everything that the settings name, writes the plan and trains all phases; returns the results."""
    from osftx.planning.preflight import check

    checked = check(config, run_folder)
    from osftx.planning.calibration import calibrate
    from osftx.planning.resources import check_room
    from osftx.planning.show_plan import show_plan
    from osftx.runs import orchestrator

    check_room(config, checked, run_folder)
    if config.plan.calibrate:
        checked = replace(checked, plan=checked.plan.with_durations(calibrate(config, checked, cluster)))
    write_text(run_folder / CONFIG, asked)
    write_json(run_folder / PLAN, masked(checked.plan.to_dict()))
    show_plan(checked.plan)
    return orchestrator.run(
        config, checked, run_folder, [mask_override(word) for word in arguments], cluster, between_phases
    )
