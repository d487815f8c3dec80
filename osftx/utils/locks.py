"""Locks on files, between processes that may be on several machines.

They are locks of the operating system, which ends them with the process that holds them. On a file system without such
locks, filelock falls back to the existence of the file.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

WAIT_TOLD_AFTER_S = 1.0
"""Seconds of waiting before the user is told what the program waits for."""


class HeldError(Exception):
    """Another process holds the lock."""


@contextmanager
def waiting_lock(path: Path, reason: str) -> Iterator[None]:
    """Holds the lock on `path`; waits while another process holds it, and prints `reason` if that takes a while.

    Makes the folder of `path`. Raises OSError if the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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

    Raises HeldError if another process holds the lock, OSError if the file cannot be made.
    """
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(path, timeout=0))
        except Timeout as error:
            raise HeldError(str(path)) from error
        yield
