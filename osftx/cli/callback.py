"""The callback for the start and the end of a sweep. conf/config.yaml names it, and Hydra calls it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from osftx.cli.session import current_session


class PastHydra(BaseException):
    """Carries an error of a callback out of Hydra, which turns every Exception there into a warning and goes on."""

    def __init__(self, error: Exception):
        self.error = error
        super().__init__(str(error))


class SweepCallback(Callback):
    """Passes Hydra's calls on to the session. It has no state, because launchers pickle it for the process of a job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        with _past_hydra():
            current_session().begin_sweep(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        with _past_hydra():
            current_session().end_sweep()


@contextmanager
def _past_hydra() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise PastHydra(error) from error
