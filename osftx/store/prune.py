"""Removes from the store what is named as the store names it, and nothing else."""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from osftx.config.run_layout import saved_steps
from osftx.store.entries import FINGERPRINT, PhaseStore

_NAME = FINGERPRINT.pattern
REST = re.compile(rf"{_NAME}\.(partial|damaged)-[0-9a-f]{{8}}")
"""Folders that were set aside, or were not complete when their run ended."""
PARTIAL = re.compile(rf"{_NAME}\.safetensors\.[0-9a-f]{{8}}\.partial")
DECOMPOSITION = re.compile(rf"{_NAME}\.safetensors")
SCORE = re.compile(rf"{_NAME}-{_NAME}\.json")


def prune(store: PhaseStore, unfinished: bool, everything: bool) -> int:
    """Removes the rests, `unfinished` phases with saves too, or `everything`; returns how many phases or rests.

    Phases on which a run works stay. Raises OSError for what cannot be removed.
    """
    broken_off = [
        folder
        for folder in _named(store.unfinished, FINGERPRINT)
        if folder.is_dir() and (unfinished or everything or not saved_steps(folder))
    ]
    removed = sum(_remove(store, folder) for folder in broken_off)
    _unlink(store.eigenvectors, PARTIAL)
    if everything:
        _unlink(store.eigenvectors, DECOMPOSITION)
        for folder in (store.evaluations, store.benchmarks, store.generated):
            _unlink(folder, SCORE)
        for folder in (store.eigenvectors, store.evaluations, store.benchmarks, store.generated):
            with suppress(OSError):  # missing, or with something else in it
                folder.rmdir()
        store.known_digests.unlink(missing_ok=True)
    kinds = (REST, FINGERPRINT) if everything else (REST,)
    return removed + sum(_remove(store, folder) for kind in kinds for folder in _named(store.phases, kind))


def _named(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    yield from (path for path in sorted(folder.glob("*")) if pattern.fullmatch(path.name) and not path.is_symlink())


def _unlink(folder: Path, pattern: re.Pattern[str]) -> None:
    for path in _named(folder, pattern):
        path.unlink(missing_ok=True)


def _remove(store: PhaseStore, folder: Path) -> bool:
    """Removes a folder and returns True, or returns False if a run is working on its phase."""
    path = store.folder / "locks" / f"{folder.name.partition('.')[0]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            shutil.rmtree(folder)
            return True
    except Timeout:
        return False
