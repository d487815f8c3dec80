"""The Optuna study of a search and its storage. The sweeper opens it; with pruning, every job does as well."""

from pathlib import Path

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from osftx.errors import ConfigurationError
from osftx.sweep.optuna.settings import OptunaSweeperConf, Pruner, Sampler

JOURNAL = "study.journal"
"""File in the sweep folder with every event of the study, one per line."""


def create_study(settings: OptunaSweeperConf, folder: Path | None, directions: list[str]) -> optuna.Study:
    """Returns a new study of the sweep in `folder`; a study that an earlier sweep left there is removed.

    Without a `folder` the study is kept in memory. Raises ConfigurationError if the storage cannot be opened, or if a
    storage that the user has named holds a study of the same name.
    """
    if folder is not None and settings.storage is None:
        for path in folder.glob(f"{JOURNAL}*"):  # its lock too
            path.unlink()
    try:
        return optuna.create_study(
            storage=None if folder is None else _storage(settings, folder),
            study_name=settings.study_name,
            sampler=_sampler(settings, tried=0),
            pruner=_pruner(settings),
            directions=[StudyDirection[towards.upper()] for towards in directions],
        )
    except optuna.exceptions.DuplicatedStudyError as error:
        raise ConfigurationError(
            [
                f"hydra.sweeper.study_name={settings.study_name}: is in hydra.sweeper.storage={settings.storage} "
                "already; go on with it by sweep.resume=DIR, or choose another name"
            ]
        ) from error


def resume_study(settings: OptunaSweeperConf, folder: Path) -> optuna.Study:
    """Returns the study of the sweep in `folder`. Raises ConfigurationError if there is none."""
    found = None
    if settings.storage is not None or (folder / JOURNAL).exists():
        storage = _storage(settings, folder)
        if settings.study_name in optuna.get_all_study_names(storage):
            found = optuna.load_study(
                storage=storage, study_name=settings.study_name, sampler=None, pruner=_pruner(settings)
            )
    if found is None:
        raise ConfigurationError(
            [f"sweep.resume={folder}: holds no search with Optuna; correct the folder, or leave sweep.resume out"]
        )
    found.sampler = _sampler(settings, tried=len(found.get_trials(deepcopy=False)))
    return found


def _storage(settings: OptunaSweeperConf, folder: Path) -> BaseStorage:
    """Returns the storage, a journal file or a database. Raises ConfigurationError if it cannot be opened."""
    place = settings.storage or str(folder / JOURNAL)
    try:
        return get_storage(place) if "://" in place else JournalStorage(JournalFileBackend(place))
    except Exception as error:  # each database driver raises its own exceptions
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigurationError(
            [f"hydra.sweeper.storage={place}: cannot be opened ({reason}); give a file, a database's URL, or null"]
        ) from error


def _sampler(settings: OptunaSweeperConf, tried: int) -> BaseSampler:
    """Returns the sampler; `tried` is the number of trials so far.

    `tried` is added to the seed, so that a resumed search does not draw its first values again.
    """
    seed = None if settings.seed is None else settings.seed + tried
    if settings.sampler is Sampler.tpe:
        return TPESampler(seed=seed)
    if settings.sampler is Sampler.nsga2:
        return NSGAIISampler(seed=seed)
    return RandomSampler(seed=seed)  # every point of a grid is queued, so there is nothing to draw


def _pruner(settings: OptunaSweeperConf) -> BasePruner:
    return MedianPruner() if settings.pruner is Pruner.median else NopPruner()
