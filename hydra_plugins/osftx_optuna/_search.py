"""The search: ask Optuna for values, launch the jobs, tell it what came of them."""

import math
import sys
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import optuna
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.trial import Trial, TrialState

from hydra_plugins.osftx_optuna import _study
from hydra_plugins.osftx_optuna._pruning import PRUNED
from hydra_plugins.osftx_optuna._space import Parameter, grid, parameters
from hydra_plugins.osftx_optuna.sweeper import OptunaSweeperConf, Pruner, Sampler
from osftx.config.objective import Direction, as_list, direction
from osftx.errors import ConfigurationError

MULTIRUN_FILE = "multirun.yaml"
RESUME = "sweep.resume"
RETRY_OF = "retry_of"
"""Attribute of a trial: the number of the failed one whose values it tries again."""
HIGHEST_SEED = 2**31
"""Room below numpy's limit for the trials, which are added to the seed."""
SEARCH = "search"
"""Attribute of a study: what must be the same when it goes on."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

Check = Callable[[Sequence[Sequence[str]]], None]


def search(
    settings: OptunaSweeperConf,
    config: DictConfig,
    overrides: dict[str, Override],
    launcher: Launcher,
    check: Check,
) -> None:
    """Run jobs until `n_trials` have ended with an objective, counting those of before where the sweep is resumed.

    `overrides` are those of the command line and `params`, by key; `check` raises Hydra's error for jobs that cannot
    be composed. Raises ConfigurationError before any job if the settings make no search.
    """
    searched = parameters(overrides)
    directions = _directions(settings, config)
    if found := _problems(settings, config, searched, directions):
        raise ConfigurationError(found)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(str(config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    study = _open(settings, config, folder, overrides, directions)
    OmegaConf.save(config, folder / MULTIRUN_FILE)

    missing = _jobs(settings, searched) - len(study.get_trials(deepcopy=False, states=ENDED))
    space = {parameter.key: parameter.distribution for parameter in searched}
    while missing > 0:
        trials = [study.ask(space) for _ in range(min(settings.batch_size, missing))]
        first = trials[0].number
        if [trial.number for trial in trials] != list(range(first, first + len(trials))):
            raise ConfigurationError(
                [f"hydra.sweeper.study_name={settings.study_name}: another sweep works on it; choose another name"]
            )
        jobs = [_job(trial, searched, overrides, settings) for trial in trials]
        check(jobs)
        for trial, done in zip(trials, launcher.launch(jobs, initial_job_idx=first), strict=True):
            _tell(study, trial, done)
        missing -= len(trials)


def _directions(settings: OptunaSweeperConf, config: DictConfig) -> list[str]:
    """One for each objective: as set, or what is better for it."""
    if settings.directions is not None:
        return [str(towards) for towards in as_list(settings.directions)]
    objective = OmegaConf.select(config, "objective")
    if objective is None:
        return [Direction.maximize.value]
    try:
        return [direction(str(path)).value for path in as_list(objective)]
    except ValueError as error:
        raise ConfigurationError([f"objective={objective}: {error}"]) from error


def _problems(
    settings: OptunaSweeperConf, config: DictConfig, searched: list[Parameter], directions: list[str]
) -> list[str]:
    found = []
    for key in ("n_trials", "batch_size"):
        if (value := getattr(settings, key)) < 1:
            default = getattr(OptunaSweeperConf, key)
            found.append(f"hydra.sweeper.{key}={value}: must be 1 or more; the default is {default}")
    if settings.seed is not None and not 0 <= settings.seed < HIGHEST_SEED:
        found.append(f"hydra.sweeper.seed={settings.seed}: must be from 0 to {HIGHEST_SEED - 1}, or null")
    allowed = [towards.value for towards in Direction]
    found += [
        f"hydra.sweeper.directions={directions}: {towards} is none; use {' or '.join(allowed)} for each objective"
        for towards in directions
        if towards not in allowed
    ]
    objective = OmegaConf.select(config, "objective")
    if objective is not None and len(directions) != len(as_list(objective)):
        found.append(
            f"hydra.sweeper.directions={directions}: {len(directions)} for {len(as_list(objective))} objectives "
            f"(objective={objective}); give one for each, or null"
        )
    measured = ("summary.", "retention.")
    if not OmegaConf.select(config, "evaluation.sets"):
        found += [
            f"objective={path}: has no value without evaluation sets, so there is nothing to search for; choose an "
            "evaluation, or another objective"
            for path in map(str, as_list(objective))
            if path.startswith(measured)
        ]
    if settings.pruner is not Pruner.none and len(directions) > 1:
        found.append(
            f"hydra.sweeper.pruner={settings.pruner.name}: prunes for one objective, not for {len(directions)}; "
            "set it to none"
        )
    if settings.sampler is Sampler.grid:
        endless = [parameter for parameter in searched if parameter.points() is None]
        found += [
            f"{parameter.key}={parameter.text}: a grid needs values that can be counted; "
            "write range(..) or choice(..), or set hydra.sweeper.sampler=tpe"
            for parameter in endless
        ]
        if not endless and (count := _points(searched)) > settings.n_trials:
            found.append(
                f"hydra.sweeper.n_trials={settings.n_trials}: the grid has {count} points; "
                f"set it to {count} or more, or give fewer values"
            )
    return found


def _points(searched: list[Parameter]) -> int:
    return prod(len(parameter.points() or []) for parameter in searched)


def _jobs(settings: OptunaSweeperConf, searched: list[Parameter]) -> int:
    return _points(searched) if settings.sampler is Sampler.grid else settings.n_trials


def _open(
    settings: OptunaSweeperConf,
    config: DictConfig,
    folder: Path,
    overrides: dict[str, Override],
    directions: list[str],
) -> optuna.Study:
    """The study, with whatever is to be tried first in its queue."""
    asked = {
        "overrides": [override.input_line for key, override in overrides.items() if key != RESUME],
        "directions": directions,
    }
    if OmegaConf.select(config, "dry_run"):  # nothing is kept
        study = _study.begin(settings, None, directions)
    elif OmegaConf.select(config, RESUME) is None:
        study = _study.begin(settings, folder, directions)
        study.set_user_attr(SEARCH, asked)
    else:
        study = _study.go_on(settings, folder)
        if study.user_attrs.get(SEARCH) != asked:
            raise ConfigurationError(
                [
                    f"sweep.resume={folder}: is a search with other settings ({study.user_attrs.get(SEARCH)}); "
                    "give the same command as the first time, or leave sweep.resume out"
                ]
            )
        _queue_failed(study)
    if settings.sampler is Sampler.grid:
        queued = sum(RETRY_OF not in trial.user_attrs for trial in study.get_trials(deepcopy=False))
        for point in list(grid(parameters(overrides)))[queued:]:
            study.enqueue_trial(point)
    return study


def _queue_failed(study: optuna.Study) -> None:
    """Try the values of failed trials again, and of those that were running when the sweep was broken off."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    for trial in trials:
        if trial.state is TrialState.FAIL and trial.number not in retried:
            study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})


def _job(
    trial: Trial, searched: list[Parameter], overrides: dict[str, Override], settings: OptunaSweeperConf
) -> tuple[str, ...]:
    """The overrides of one job, in the order in which they were given."""
    chosen = {parameter.key: parameter.override(trial.params[parameter.key]) for parameter in searched}
    words = [chosen.get(key) or str(override.input_line) for key, override in overrides.items()]
    if settings.pruner is not Pruner.none:
        words.append(f"hydra.sweeper.trial={trial.number}")
    return tuple(words)


def _tell(study: optuna.Study, trial: Trial, done: JobReturn) -> None:
    """A job that failed, or has no finite objective, is a failed trial."""
    if done.status is not JobStatus.COMPLETED:
        cause = done._return_value  # the property would raise it
        print(f"job {trial.number} failed: {type(cause).__name__}: {cause}", file=sys.stderr, flush=True)
        study.tell(trial, state=TrialState.FAIL)
        return
    if study.get_trials(deepcopy=False)[trial.number].user_attrs.get(PRUNED):
        study.tell(trial, state=TrialState.PRUNED)
        return
    values = as_list(done.return_value)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        study.tell(trial, state=TrialState.FAIL)
        return
    if len(values) != len(study.directions):
        study.tell(trial, state=TrialState.FAIL)
        raise ConfigurationError(
            [
                f"hydra.sweeper.directions: {len(study.directions)} for the {len(values)} objectives of a job; "
                "give one for each"
            ]
        )
    study.tell(trial, [float(value) for value in values])
