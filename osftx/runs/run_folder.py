"""The folder of a run: made, locked while the run lasts, and removed again when nothing was started."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from osftx.config.run_layout import CONFIG, LOCK, PLAN
from osftx.config.schema import ExperimentConfig
from osftx.errors import ConfigurationError
from osftx.utils.locks import HeldError, immediate_lock

PLACE = ("node_rank", "rdzv_endpoint", "join_timeout_s")
"""Of `distributed`: a cluster that starts a run again may do so on other machines."""


def dated(parent: Path) -> Path:
    """A folder in `parent` for a run that starts now; one that starts in the same second as another gets its own."""
    folder = parent / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    others = (folder.with_name(f"{folder.name}_{number}") for number in count(2))
    return next(place for place in chain([folder], others) if not place.exists())


def make_run_folder(config: ExperimentConfig, usual: Path, composed: str) -> tuple[Path, list[Path]]:
    """The run folder, `output_dir` or else `usual`, and which folders had to be made for it, the innermost first.

    A folder that holds a run is taken only for the same configuration (`composed`, as YAML): a run that was broken off
    goes on there, with what the store has of it. Raises ConfigurationError otherwise, or when it cannot be written.
    """
    folder = usual if config.output_dir is None else Path(config.output_dir).expanduser()
    if (folder / PLAN).exists():
        if not config.reuse and config.sweep.resume is None:  # it would all be trained again, over what is there
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
    """Keeps other processes out of the run folder. Raises ConfigurationError if another one works there already."""
    with ExitStack() as held:
        try:
            held.enter_context(immediate_lock(folder / LOCK))
        except HeldError as error:
            raise ConfigurationError(
                [f"output_dir={folder}: another process is running there; wait for it, or choose another folder"]
            ) from error
        yield


def _same(folder: Path, composed: str) -> bool:
    """Whether the run in `folder` was made with this configuration: wherever its nodes met, timed beforehand or not,
    and also where it is only asked for (`dry_run`)."""
    try:
        return _deciding((folder / CONFIG).read_text()) == _deciding(composed)
    except (OSError, ValueError, YAMLError):
        return False


def _deciding(composed: str) -> Any:
    content = OmegaConf.to_container(OmegaConf.create(composed))
    if not isinstance(content, dict):
        return content
    content.pop("plan", None)
    content.pop("dry_run", None)
    if isinstance(content.get("distributed"), dict):
        content["distributed"] = {key: value for key, value in content["distributed"].items() if key not in PLACE}
    return content


def remove_empty(folders: list[Path]) -> None:
    """Nothing was started, so nothing is left behind; what was there before, or has other content, stays."""
    for path in folders:
        if path.is_dir() and not [inner for inner in path.iterdir() if inner.name != LOCK]:
            (path / LOCK).unlink(missing_ok=True)
            path.rmdir()
