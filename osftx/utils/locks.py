"""File locks between processes, which may run on several machines.

The operating system releases a lock when the process that holds it ends. On a file system without such locks, filelock
falls back to the existence of the file.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

WAIT_TOLD_AFTER_S = 1.0
"""Seconds of waiting before the program prints what it waits for."""


class HeldError(Exception):
    """Raised if another process holds the lock."""


@contextmanager
def waiting_lock(path: Path, reason: str) -> Iterator[None]:
    """Holds the lock on `path`. Waits while another process holds it, and prints `reason` after `WAIT_TOLD_AFTER_S`.

    Creates the folder of `path`. Raises OSError if the file cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _make(path)
    lock = FileLock(path)
    with ExitStack() as held:
        try:
            held.enter_context(lock.acquire(timeout=WAIT_TOLD_AFTER_S))
        except Timeout:
            print(reason, flush=True)
            held.enter_context(lock.acquire())
        yield


@contextmanager
def immediate_lock(path: Path) -> Iterator[None]:
    """Holds the lock on `path`, whose folder must exist, without waiting for it.

    Raises HeldError if another process holds the lock, OSError if the file cannot be created.
    """
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(path, timeout=0))
        except Timeout as error:
            raise HeldError(str(path)) from error
        yield


def _make(path: Path) -> None:
    """Makes the file of a lock with the rights that the umask leaves: filelock itself never lets a group write it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
