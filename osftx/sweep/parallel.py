"""Support for launchers (joblib, submitit) that run the jobs of a sweep in their own processes, several at a time."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def one_at_a_time(config: DictConfig) -> bool:
    """Returns whether the sweep's jobs run in this process, one after the other.

    `config` is Hydra's configuration of the sweep.
    """
    return str(config.hydra.launcher._target_) == BASIC_LAUNCHER


def run_one_at_a_time(config: DictConfig) -> None:
    """Replaces the launcher of the sweep with Hydra's basic one."""
    with read_write(config), open_dict(config):
        config.hydra.launcher = {"_target_": BASIC_LAUNCHER}


def in_parallel(hydra_config: HydraConf) -> bool:
    """Returns whether this process runs one of several concurrent jobs.

    `hydra_config` is Hydra's configuration of the job.
    """
    return hydra_config.mode is RunMode.MULTIRUN and hydra_config.runtime.choices["hydra/launcher"] != "basic"


@contextmanager
def own_output(path: Path) -> Iterator[TextIO]:
    """Appends all output of this process and of the processes that it starts to `path`; yields the screen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    before = [os.dup(place) for place in (1, 2)]  # by number, because the ranks inherit file descriptors
    with path.open("a", encoding="utf-8") as file, _screen() as screen:
        for stream in streams:
            stream.flush()
        for place in (1, 2):
            os.dup2(file.fileno(), place)
        try:
            yield screen
        finally:
            for stream in streams:
                stream.flush()
            for place, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, place)
                os.close(kept)


def _screen() -> TextIO:
    """Returns the output of this process as it is now, in its encoding."""
    return os.fdopen(os.dup(1), "w", encoding=getattr(sys.stdout, "encoding", None) or "utf-8", errors="replace")


def lost_job_errors() -> tuple[type[Exception], ...]:
    """Returns the errors that the launchers raise if the process of a job ends without a result."""
    if "submitit" not in sys.modules:
        return (BrokenExecutor,)  # joblib's error is a subclass
    from submitit.core.utils import UncompletedJobError

    return (BrokenExecutor, UncompletedJobError)
