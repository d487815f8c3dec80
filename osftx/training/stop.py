"""A request to stop that leaves time to save: SIGTERM (Kubernetes, a dying parent) or SIGUSR1 (Slurm)."""

import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
GRACE_S = 30
"""Seconds after the first signal until the process ends anyway: a rank may be waiting for one that is gone."""


class Stopped(Exception):  # noqa: N818  (no error: it was asked for)
    """The phase was asked to stop, and did."""


class StopRequest:
    """While it is entered, the signals no longer end the process at once but set `made`."""

    def __init__(self) -> None:
        self.made = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._make) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _make(self, _number: int, _frame: FrameType | None) -> None:
        if not self.made:
            signal.alarm(GRACE_S)  # the default action of SIGALRM ends the process
        self.made = True
