"""The Hydra application: `osftx +experiment=NAME [overrides]`, or `python -m osftx ...`.

Hydra is known here, in the rest of `cli` and in `sweep`. The exit codes are `osftx.errors.ExitCode`.
"""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from signal import Signals, signal
from types import FrameType
from typing import NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from osftx.cli.conf_folder import CONFIG_NAME, conf_folder
from osftx.cli.endings import ending, lost_job
from osftx.cli.run import run
from osftx.cli.session import Session, open_session
from osftx.cli.sweep_job import run_sweep_job
from osftx.config.schema import ExperimentConfig
from osftx.errors import ConfigurationError, ExitCode, StoppedError, StopSignal, TrainingError
from osftx.launch.cluster import Cluster
from osftx.sweep.job import Objective
from osftx.sweep.parallel import lost_job_errors
from osftx.sweep.resume import RESUME
from osftx.utils.console import leave


def main() -> None:
    """Runs one command line and ends the program, unless it is done (exit code 0)."""
    for number in (Signals.SIGTERM, Signals.SIGUSR1):
        signal(number, _stop)
    _register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra lets its errors through, to be explained here
    with open_session() as session:
        try:
            _compose_and_run(session)
        except SystemExit as ended:  # also of a sweep with jobs that failed
            message = getattr(ended, "message", "see the output of the first node")
            session.cluster.end(int(ended.code or 0), message)
            raise
        session.cluster.end(ExitCode.done)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """Handles SIGTERM and SIGUSR1 while no ranks are running."""
    name = Signals(number).name
    raise StopSignal(f"stopped by {name}; give the same command again to go on: what is done is reused")


def _register() -> None:
    """Makes the schema and the sweeper known to Hydra."""
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    plugins = Plugins.instance()  # those that Hydra finds; in an editable install it does not find ours
    from hydra_plugins.osftx_optuna.sweeper import OptunaSweeper  # afterwards: Hydra executes again what is imported

    plugins.register(OptunaSweeper)


def _compose_and_run(session: Session) -> None:
    """Has Hydra compose the configuration and run it, once or as a sweep. Every error but a bug ends the program."""
    application = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=CONFIG_NAME)
    try:
        application(Task(session.cluster).run)()
    except lost_job_errors() as error:
        with suppress(SystemExit):  # with the exit code of another job that failed
            session.end_sweep()  # Hydra does not get so far
        leave(lost_job(error), ExitCode.training_failed)
    except (Exception, StopSignal, KeyboardInterrupt) as error:
        ended = ending(error, sys.argv[1:])
        if ended is None:
            raise
        leave(*ended)


@dataclass(frozen=True)
class Task:
    """What Hydra runs for each configuration that it composes. Launchers pickle it for the process of a job."""

    cluster: Cluster

    def run(self, composed: DictConfig) -> Objective:
        """Runs one configuration. In a sweep it returns the objective, and a failure does not end the sweep."""
        hydra_config = HydraConfig.get()
        in_sweep = hydra_config.mode is RunMode.MULTIRUN
        try:
            if in_sweep:
                return run_sweep_job(composed, hydra_config, self.cluster)
            if composed.sweep.resume is not None:
                raise ConfigurationError([f"{RESUME}={composed.sweep.resume}: not a sweep; add -m, or leave it out"])
            run(composed, sys.argv[1:], self.cluster)
            return None
        except StoppedError as error:
            more = f"\n  and {RESUME}={hydra_config.sweep.dir} with it, to keep to this sweep" if in_sweep else ""
            leave(f"{error}{more}", error.exit_code)
        except (ConfigurationError, TrainingError) as error:
            leave(str(error), error.exit_code)
