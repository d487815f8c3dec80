"""Checks of the settings of a search, before its first job."""

from math import prod
from typing import Any

from omegaconf import DictConfig, OmegaConf

from osftx.config.objective import Direction, as_list
from osftx.sweep.optuna.settings import OptunaSweeperConf, Pruner, Sampler
from osftx.sweep.optuna.space import Parameter

HIGHEST_SEED = 2**31
"""Exclusive upper limit of the seed. It leaves room below numpy's limit for the number of trials, which is added."""
MEASURED = ("summary.", "retention.")
"""Prefixes of the objectives that are measured on evaluation sets."""


def problems(
    settings: OptunaSweeperConf, config: DictConfig, searched: list[Parameter], directions: list[str]
) -> list[str]:
    """Returns every problem of the settings, one line each, with key, value, what is allowed, and the remedy."""
    objective = OmegaConf.select(config, "objective")
    return [
        *_ranges(settings),
        *_directions(directions, objective),
        *_unmeasured(config, objective),
        *_pruner(settings, directions),
        *(_grid(settings, searched) if settings.sampler is Sampler.grid else ()),
    ]


def grid_size(searched: list[Parameter]) -> int:
    """Returns the number of points of the grid. Every parameter must have `points`."""
    return prod(len(parameter.points() or []) for parameter in searched)


def _ranges(settings: OptunaSweeperConf) -> list[str]:
    found = []
    for key in ("n_trials", "batch_size"):
        if (value := getattr(settings, key)) < 1:
            default = getattr(OptunaSweeperConf, key)
            found.append(f"hydra.sweeper.{key}={value}: must be 1 or more; the default is {default}")
    if settings.seed is not None and not 0 <= settings.seed < HIGHEST_SEED:
        found.append(f"hydra.sweeper.seed={settings.seed}: must be from 0 to {HIGHEST_SEED - 1}, or null")
    return found


def _directions(directions: list[str], objective: Any) -> list[str]:
    allowed = [towards.value for towards in Direction]
    found = [
        f"hydra.sweeper.directions={directions}: {towards} is none; use {' or '.join(allowed)} for each objective"
        for towards in directions
        if towards not in allowed
    ]
    if objective is not None and len(directions) != len(as_list(objective)):
        found.append(
            f"hydra.sweeper.directions={directions}: {len(directions)} for {len(as_list(objective))} objectives "
            f"(objective={objective}); give one for each, or null"
        )
    return found


def _unmeasured(config: DictConfig, objective: Any) -> list[str]:
    """Returns a problem for each objective for which no job would have a value."""
    if OmegaConf.select(config, "evaluation.sets"):
        return []
    return [
        f"objective={path}: has no value without evaluation sets, so there is nothing to search for; choose an "
        "evaluation, or another objective"
        for path in map(str, as_list(objective))
        if path.startswith(MEASURED)
    ]


def _pruner(settings: OptunaSweeperConf, directions: list[str]) -> list[str]:
    if settings.pruner is Pruner.none or len(directions) <= 1:
        return []
    return [
        f"hydra.sweeper.pruner={settings.pruner.name}: prunes for one objective, not for {len(directions)}; "
        "set it to none"
    ]


def _grid(settings: OptunaSweeperConf, searched: list[Parameter]) -> list[str]:
    endless = [parameter for parameter in searched if parameter.points() is None]
    if not endless and (count := grid_size(searched)) > settings.n_trials:
        return [
            f"hydra.sweeper.n_trials={settings.n_trials}: the grid has {count} points; "
            f"set it to {count} or more, or give fewer values"
        ]
    return [
        f"{parameter.key}={parameter.text}: a grid needs values that can be counted; "
        "write range(..) or choice(..), or set hydra.sweeper.sampler=tpe"
        for parameter in endless
    ]
