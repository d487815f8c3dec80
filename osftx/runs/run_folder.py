"""The folder of a run: making it, locking it while the run lasts, and removing it again if nothing was started."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from osftx.config.identity import Use, counting
from osftx.config.run_layout import CONFIG, JOB, JOB_OUTPUT, LOCK, PLAN, RUN_DATA
from osftx.config.schema import ExperimentConfig
from osftx.errors import ConfigurationError
from osftx.results.run_reader import read_settings
from osftx.utils.files import expanded
from osftx.utils.locks import HeldError, immediate_lock
from osftx.utils.masking import seal_of

BEFORE_THE_PLAN = (LOCK, CONFIG, RUN_DATA, JOB, JOB_OUTPUT)
"""What a run leaves that ended before its plan was written."""
TEMPORARY = re.compile(r".*\.partial|\.osftx-.*")


def dated(parent: Path) -> Path:
    """Returns the path of a folder in `parent` that does not exist yet and is named after the current second."""
    folder = parent / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    others = (folder.with_name(f"{folder.name}_{number}") for number in count(2))
    return next(place for place in chain([folder], others) if not place.exists())


def make_run_folder(config: ExperimentConfig, usual: Path, composed: str) -> tuple[Path, list[Path]]:
    """Makes the run folder, `output_dir` or else `usual`; returns it and the new folders, innermost first.

    A folder that holds a run is used only for the same configuration (`composed`, as YAML): an interrupted run then
    continues there, with what the store has of it. Raises ConfigurationError otherwise, for a folder that holds
    anything else, or if the folder cannot be written.
    """
    folder = usual if config.output_dir is None else expanded(config.output_dir)
    if (folder / PLAN).exists():
        if not config.reuse and config.sweep.resume is None:  # it would overwrite what is there
            raise ConfigurationError(
                [f"output_dir={folder}: holds a run already; choose another folder, or remove this one"]
            )
        if not _same(folder, composed):
            raise ConfigurationError(
                [
                    f"output_dir={folder}: holds a run with another configuration already; choose another folder "
                    "(what both have in common is in the store, and is reused), or remove this one"
                ]
            )
    elif (folder / CONFIG).exists() and not _same(folder, composed):
        raise ConfigurationError(
            [f"output_dir={folder}: holds a config.yaml that is not of this run; choose another folder"]
        )
    elif (other := _something_else(folder)) is not None:
        raise ConfigurationError(
            [f"output_dir={folder}: holds {other}, which is no part of a run; choose a new or an empty folder"]
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            [f"output_dir={folder}: cannot be written ({error.strerror}); choose a folder that you may write to"]
        ) from error
    return folder.resolve(), made


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run folder. Raises ConfigurationError if one works there, or without locks."""
    with ExitStack() as held:
        try:
            held.enter_context(immediate_lock(folder / LOCK))
        except HeldError as error:
            raise ConfigurationError(
                [f"output_dir={folder}: another process is running there; wait for it, or choose another folder"]
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise ConfigurationError(
                [f"output_dir={folder}: cannot be locked ({reason}); choose a folder on a file system with locks"]
            ) from error
        yield


def _something_else(folder: Path) -> str | None:
    """Returns the name of something in a folder without a plan that no run leaves before its plan; None if all is."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:  # missing, or not to be read: making it tells
        return None
    return next((name for name in names if name not in BEFORE_THE_PLAN and not TEMPORARY.fullmatch(name)), None)


def _same(folder: Path, composed: str) -> bool:
    """Returns whether the run in `folder` has this configuration, except for ignored keys (`config/identity.py`)."""
    try:
        there = read_settings(folder)  # first, since it reads only regular files of bounded size
        if seal_of((folder / CONFIG).read_text(encoding="utf-8")) != seal_of(composed):  # other secrets
            return False
        return _counting(there) == _counting(OmegaConf.to_container(OmegaConf.create(composed)))
    except (OSError, ValueError, YAMLError):
        return False


def _counting(settings: Any) -> Any:
    return counting(settings, Use.RUN) if isinstance(settings, dict) else settings


def remove_empty(folders: list[Path]) -> None:
    """Removes those of the folders that are empty except for the lock, after a run was refused."""
    for path in folders:
        if path.is_dir() and not [inner for inner in path.iterdir() if inner.name != LOCK]:
            (path / LOCK).unlink(missing_ok=True)
            path.rmdir()
