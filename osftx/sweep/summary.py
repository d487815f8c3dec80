"""The summary of a sweep, which decides from the configuration which settings and objectives are compared."""

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from osftx.config.objective import Direction, as_list, direction
from osftx.sweep.job import Job
from osftx.sweep.table import Sweep, show, write
from osftx.utils.console import complain


def summarize(config: DictConfig, jobs: list[Job], folder: Path) -> None:
    """Writes the summary of the jobs to the sweep folder and shows it.

    `config` is Hydra's configuration of the sweep.
    """
    sweep = Sweep.of(jobs, *_objectives(config), _swept_keys(config))
    write(sweep, folder)
    show(sweep, folder)


def _objectives(config: DictConfig) -> tuple[list[str], list[Direction]]:
    """Returns the objectives and the direction of each."""
    objectives = [str(path) for path in as_list(config.objective)]
    chosen = config.hydra.sweeper.get("directions")
    if chosen is None:
        return objectives, [_direction(path) for path in objectives]
    return objectives, [Direction(towards) for towards in as_list(chosen)]


def _direction(objective: str) -> Direction:
    try:
        return direction(objective)
    except ValueError as error:
        complain(f"objective={objective}: {error}; until then more of it is better")
        return Direction.maximize


def _swept_keys(config: DictConfig) -> list[str]:
    """Returns the keys with several values, in the configuration's `params` and on the command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])
    last = {override.get_key_element(): override for override in overrides}
    return [key for key, override in last.items() if override.is_sweep_override()]
