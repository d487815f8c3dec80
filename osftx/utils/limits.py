"""Limits of time and memory for code that comes with other people's files, such as chat templates.

Neither is a sandbox: they end what does not end by itself, in the process that runs it.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

try:
    import resource
except ImportError:  # no POSIX system
    resource = None  # type: ignore[assignment]

AGAIN_S = 1.0
"""Seconds of computing after which the exception is raised once more, if the code has caught the first one."""


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


@contextmanager
def memory_limit(extra_bytes: int) -> Iterator[None]:
    """Limits the memory that this process may add in the block, as far as the system can do that.

    Python raises MemoryError where the limit is reached.
    """
    used = _address_space()
    if resource is None or used is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + extra_bytes
    if soft != resource.RLIM_INFINITY and soft <= wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


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
