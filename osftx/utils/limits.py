"""Limits of time and memory for code that comes with other people's files, such as chat templates.

Neither is a sandbox: they end what does not end by itself, in the process that runs it.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

try:
    import resource
except ImportError:  # no POSIX system
    resource = None  # type: ignore[assignment]

AGAIN_S = 1.0
"""Seconds of computing after which the exception is raised once more, if the code has caught the first one."""

FRESH_S = 0.1
"""Seconds for which a measurement of the memory holds."""


class _TimeIsUp(BaseException):
    """Interrupts the code. It is no Exception, so that the code does not take it for an error of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends the block after some seconds of computing of this process; waiting does not count.

    A single call into compiled code is ended when it returns. Only the main thread has a limit.

    Raises:
        TimeoutError: the time is up.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, AGAIN_S)
    try:
        yield
    except _TimeIsUp:
        raise TimeoutError(f"it takes more than {seconds:g} seconds") from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class MemoryLimit:
    """Limits the memory that this process may add in a block, as far as the system can do that.

    Python raises MemoryError where the limit is reached. What the process has is measured every FRESH_S seconds, so
    that short blocks cost next to nothing. Blocks are not nested.
    """

    def __init__(self, extra_bytes: int):
        self._extra_bytes = extra_bytes
        self._wanted: int | None = None
        self._measured_at = -FRESH_S
        self._before: tuple[int, int] | None = None

    def __enter__(self) -> None:
        if resource is None or (wanted := self._limit()) is None:
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY or soft > wanted:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
            self._before = soft, hard

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            resource.setrlimit(resource.RLIMIT_AS, self._before)
            self._before = None

    def _limit(self) -> int | None:
        now = time.monotonic()
        if now - self._measured_at >= FRESH_S:
            used = _address_space()
            self._measured_at, self._wanted = now, None if used is None else used + self._extra_bytes
        return self._wanted


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _TimeIsUp


def _address_space() -> int | None:
    """Returns the bytes of address space that this process uses; None where the system does not tell."""
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
        try:
            return int(os.read(file, 32).split()[0]) * resource.getpagesize()
        finally:
            os.close(file)
    except OSError:
        return None
