"""Limits of time and memory: they end what does not end by itself, and leave nothing behind."""

import resource
import signal
import threading
from collections.abc import Callable

import pytest

from osftx.utils.limits import MemoryLimit, time_limit


def forever() -> None:
    while True:
        pass


def deaf() -> None:
    """Takes every error for its own."""
    while True:
        try:
            forever()
        except Exception:
            continue


@pytest.mark.parametrize("endless", [forever, deaf])
def test_what_does_not_end_is_ended(endless: Callable[[], None]) -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(TimeoutError, match=r"it takes more than 0\.1 seconds"), time_limit(0.1):
        endless()
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == before


def test_what_ends_in_time_gives_its_result_or_its_error() -> None:
    with time_limit(60):
        done = sum(range(10))
    assert done == 45
    with pytest.raises(KeyError), time_limit(60):
        raise KeyError


def test_other_threads_have_no_limit() -> None:
    ended = []

    def work() -> None:
        with time_limit(0.001):
            ended.append(sum(range(10**6)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(ended) == 1


def test_memory_is_limited_and_free_again() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = MemoryLimit(1 << 28)
    for _ in range(2):
        with pytest.raises(MemoryError), limit:
            bytearray(1 << 29)
        with limit:
            bytearray(1 << 20)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    bytearray(1 << 29)
