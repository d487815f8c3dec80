"""The search loop: Optuna chooses values, the launcher runs the jobs, and Optuna receives their objectives."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.trial import Trial, TrialState

from osftx.config.objective import Direction, as_list, direction
from osftx.config.run_layout import SWEEP_CONFIG
from osftx.errors import ConfigurationError
from osftx.sweep.optuna.checks import grid_size, problems
from osftx.sweep.optuna.pruning import PRUNED
from osftx.sweep.optuna.settings import OptunaSweeperConf, Pruner, Sampler
from osftx.sweep.optuna.space import Parameter, grid, parameters
from osftx.sweep.optuna.study import create_study, resume_study
from osftx.sweep.resume import RESUME, mask_settings
from osftx.utils.console import printable
from osftx.utils.masking import mask_override

RETRY_OF = "retry_of"
"""User attribute of a trial with the number of the failed trial whose values it repeats."""
SEARCH = "search"
"""User attribute of a study with the settings that must be the same when it is resumed."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

Check = Callable[[Sequence[Sequence[str]]], None]


def search(
    settings: OptunaSweeperConf,
    config: DictConfig,
    overrides: dict[str, Override],
    launcher: Launcher,
    check: Check,
) -> None:
    """Runs jobs until `n_trials` have ended with an objective or were pruned; a resumed sweep counts its earlier ones.

    `overrides` are those of `params` and of the command line, by key. `check` raises Hydra's error for jobs that cannot
    be composed. Raises ConfigurationError before the first job if the settings are wrong.
    """
    searched = parameters(overrides)
    directions = _directions(settings, config)
    if found := problems(settings, config, searched, directions):
        raise ConfigurationError(found)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = Path(str(config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    study = _open(settings, config, folder, overrides, directions)
    if settings.sampler is Sampler.grid:
        _queue_grid(study, searched)
    OmegaConf.save(config, folder / SWEEP_CONFIG)
    mask_settings(folder)

    wanted = grid_size(searched) if settings.sampler is Sampler.grid else settings.n_trials
    missing = wanted - len(study.get_trials(deepcopy=False, states=ENDED))
    while missing > 0:
        trials = _ask(study, settings, searched, min(settings.batch_size, missing))
        jobs = [_job(trial, searched, overrides, settings) for trial in trials]
        check(jobs)
        for trial, done in zip(trials, launcher.launch(jobs, initial_job_idx=trials[0].number), strict=True):
            _tell(study, trial, done)
        missing -= len(trials)


def _directions(settings: OptunaSweeperConf, config: DictConfig) -> list[str]:
    """Returns `maximize` or `minimize` for each objective, from the settings or else by its kind."""
    if settings.directions is not None:
        return [str(towards) for towards in as_list(settings.directions)]
    objective = OmegaConf.select(config, "objective")
    if objective is None:
        return [Direction.maximize.value]
    try:
        return [direction(str(path)).value for path in as_list(objective)]
    except ValueError as error:
        raise ConfigurationError([f"objective={objective}: {error}"]) from error


def _open(
    settings: OptunaSweeperConf,
    config: DictConfig,
    folder: Path,
    overrides: dict[str, Override],
    directions: list[str],
) -> optuna.Study:
    """Returns a new study or, if the sweep is resumed, the stored one with its failed trials queued.

    Raises ConfigurationError if the stored study has other settings.
    """
    if OmegaConf.select(config, "dry_run"):
        return create_study(settings, None, directions)
    asked = {
        "overrides": [mask_override(str(override.input_line)) for key, override in overrides.items() if key != RESUME],
        "directions": directions,
    }
    if OmegaConf.select(config, RESUME) is None:
        study = create_study(settings, folder, directions)
        study.set_user_attr(SEARCH, asked)
        return study
    study = resume_study(settings, folder)
    if study.user_attrs.get(SEARCH) != asked:
        raise ConfigurationError(
            [
                f"sweep.resume={folder}: is a search with other settings ({study.user_attrs.get(SEARCH)}); "
                "give the same command as the first time, or leave sweep.resume out"
            ]
        )
    _queue_failed(study)
    return study


def _queue_failed(study: optuna.Study) -> None:
    """Queues the values of failed trials, and of those that were running when the sweep was interrupted."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    for trial in trials:
        if trial.state is TrialState.FAIL and trial.number not in retried:
            study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})


def _queue_grid(study: optuna.Study, searched: list[Parameter]) -> None:
    """Queues the points of the grid that are not in the study yet."""
    queued = sum(RETRY_OF not in trial.user_attrs for trial in study.get_trials(deepcopy=False))
    for point in list(grid(searched))[queued:]:
        study.enqueue_trial(point)


def _ask(study: optuna.Study, settings: OptunaSweeperConf, searched: list[Parameter], count: int) -> list[Trial]:
    """Returns trials with the values of the next `count` jobs.

    The number of a job is that of its trial, so the numbers must be consecutive. Raises ConfigurationError if another
    sweep has taken a number in between.
    """
    space = {parameter.key: parameter.distribution for parameter in searched}
    trials = [study.ask(space) for _ in range(count)]
    first = trials[0].number
    if [trial.number for trial in trials] != list(range(first, first + count)):
        raise ConfigurationError(
            [f"hydra.sweeper.study_name={settings.study_name}: another sweep works on it; choose another name"]
        )
    return trials


def _job(
    trial: Trial, searched: list[Parameter], overrides: dict[str, Override], settings: OptunaSweeperConf
) -> tuple[str, ...]:
    """Returns the overrides of one job, in the order in which they were given."""
    chosen = {parameter.key: parameter.override(trial.params[parameter.key]) for parameter in searched}
    words = [chosen.get(key) or str(override.input_line) for key, override in overrides.items()]
    if settings.pruner is not Pruner.none:
        words.append(f"hydra.sweeper.trial={trial.number}")
    return tuple(words)


def _tell(study: optuna.Study, trial: Trial, done: JobReturn) -> None:
    """Tells Optuna how a job ended. A job that failed, or that has no finite objective, is a failed trial.

    Raises ConfigurationError if the job has another number of objectives than the study.
    """
    if done.status is not JobStatus.COMPLETED:
        cause = done._return_value  # the property would raise the exception
        reason = printable(f"{type(cause).__name__}: {cause}")
        print(f"job {trial.number} failed: {reason}", file=sys.stderr, flush=True)
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
