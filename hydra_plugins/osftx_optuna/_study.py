"""Where Optuna keeps a search: open it anew, or go on with it. The sweeper does, and with pruning every job."""

from pathlib import Path

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from hydra_plugins.osftx_optuna.sweeper import OptunaSweeperConf, Pruner, Sampler
from osftx.errors import ConfigurationError

JOURNAL = "study.journal"
"""In the sweep folder: every trial as Optuna knows it, one line an event."""


def begin(settings: OptunaSweeperConf, folder: Path | None, directions: list[str]) -> optuna.Study:
    """A new study, kept nowhere if there is no `folder`; one of an earlier sweep there goes.

    Raises ConfigurationError if the name is taken in a storage of the user's.
    """
    if folder is not None and settings.storage is None:
        for path in folder.glob(f"{JOURNAL}*"):  # its lock too
            path.unlink()
    try:
        return optuna.create_study(
            storage=None if folder is None else storage(settings, folder),
            study_name=settings.study_name,
            sampler=sampler(settings, tried=0),
            pruner=pruner(settings),
            directions=[StudyDirection[towards.upper()] for towards in directions],
        )
    except optuna.exceptions.DuplicatedStudyError as error:
        raise ConfigurationError(
            [
                f"hydra.sweeper.study_name={settings.study_name}: is in hydra.sweeper.storage={settings.storage} "
                "already; go on with it by sweep.resume=DIR, or choose another name"
            ]
        ) from error


def go_on(settings: OptunaSweeperConf, folder: Path) -> optuna.Study:
    """The study of the sweep in `folder`. Raises ConfigurationError if there is none."""
    found = None
    if settings.storage is not None or (folder / JOURNAL).exists():
        kept = storage(settings, folder)
        names = optuna.get_all_study_names(kept)
        if settings.study_name in names:
            found = optuna.load_study(
                storage=kept, study_name=settings.study_name, sampler=None, pruner=pruner(settings)
            )
    if found is None:
        raise ConfigurationError(
            [f"sweep.resume={folder}: holds no search with Optuna; correct the folder, or leave sweep.resume out"]
        )
    found.sampler = sampler(settings, tried=len(found.get_trials(deepcopy=False)))
    return found


def storage(settings: OptunaSweeperConf, folder: Path) -> BaseStorage:
    """A journal file, or a database by its URL. Raises ConfigurationError if it cannot be opened."""
    place = settings.storage or str(folder / JOURNAL)
    try:
        return get_storage(place) if "://" in place else JournalStorage(JournalFileBackend(place))
    except Exception as error:  # of whichever database driver
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigurationError(
            [f"hydra.sweeper.storage={place}: cannot be opened ({reason}); give a file, a database's URL, or null"]
        ) from error


def sampler(settings: OptunaSweeperConf, tried: int) -> BaseSampler:
    """`tried`: how many trials there are, so that a search that goes on does not draw its first ones again."""
    seed = None if settings.seed is None else settings.seed + tried
    if settings.sampler is Sampler.tpe:
        return TPESampler(seed=seed)
    if settings.sampler is Sampler.nsga2:
        return NSGAIISampler(seed=seed)
    return RandomSampler(seed=seed)  # of a grid every point is queued, so that nothing is left to draw


def pruner(settings: OptunaSweeperConf) -> BasePruner:
    return MedianPruner() if settings.pruner is Pruner.median else NopPruner()
