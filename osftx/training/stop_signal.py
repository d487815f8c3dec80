"""A request to stop that leaves time to save: SIGTERM (Kubernetes, a parent that dies) or SIGUSR1 (Slurm)."""

import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):  # noqa: N818  (no error: it was asked for)
    """The phase was asked to stop, and has stopped."""


class StopRequest:
    """Listens to the signals while it is entered: they set `made` instead of ending the process.

    `grace_s` seconds after the first signal the process ends anyway, since it may be waiting for a rank that is gone. A
    signal that nobody has reacted to raises Stopped when the context is left.
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
