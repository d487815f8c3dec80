"""A request to stop that leaves time to save: SIGTERM (Kubernetes, a dying parent) or SIGUSR1 (Slurm)."""

import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):  # noqa: N818  (no error: it was asked for)
    """The phase was asked to stop, and did."""


class StopRequest:
    """While it is entered, the signals no longer end the process at once but set `made`.

    `grace_s` seconds after the first one it ends anyway: a rank may be waiting for another that is gone. A signal that
    came too late to be asked for raises Stopped on leaving.
    """

    def __init__(self, grace_s: int) -> None:
        self.grace_s = grace_s
        self.made = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._make) for number in SIGNALS}
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.made and error is None:
            raise Stopped

    def _make(self, _number: int, _frame: FrameType | None) -> None:
        if not self.made:
            signal.alarm(self.grace_s)  # the default action of SIGALRM ends the process
        self.made = True
