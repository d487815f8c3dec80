"""The session: the state of the program from the start of `main` to its end.

Hydra itself creates the object that it calls when a sweep begins and ends, from a name in conf/config.yaml, without any
argument of ours. That object finds the session in a context variable, which `open_session` sets and resets. No other
code uses the variable: whatever launches ranks receives the session's cluster as an argument.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from omegaconf import DictConfig

from osftx.launch.cluster import Cluster
from osftx.sweep.running import RunningSweep

_SESSION: ContextVar["Session"] = ContextVar("osftx_session")


class Session:
    """The cluster of the program and the sweep, if it runs one."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self._sweep: RunningSweep | None = None

    def begin_sweep(self, config: DictConfig) -> None:
        """Begins the sweep with Hydra's configuration of it. See `RunningSweep.begin`."""
        self._sweep = RunningSweep(config)
        self._sweep.begin(self.cluster)

    def end_sweep(self) -> None:
        """Ends the sweep, if one has begun. See `RunningSweep.end`."""
        if self._sweep is not None:
            self._sweep.end()

    def close(self) -> None:
        """Closes the sweep, if one has begun and not ended."""
        if self._sweep is not None:
            self._sweep.close()


@contextmanager
def open_session() -> Iterator[Session]:
    """Opens the session of this program and closes it afterwards."""
    session = Session()
    token = _SESSION.set(session)
    try:
        yield session
    finally:
        _SESSION.reset(token)
        session.close()


def current_session() -> Session:
    """Returns the open session. Raises LookupError if there is none, as in a launcher's process for one job."""
    return _SESSION.get()
