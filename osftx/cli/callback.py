"""The callback for the start and the end of a sweep. conf/config.yaml names it, and Hydra calls it."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from osftx.cli.session import current_session


class SweepCallback(Callback):
    """Passes Hydra's calls on to the session. It has no state, because launchers pickle it for the process of a job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        current_session().begin_sweep(config)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        current_session().end_sweep()
