"""The Hydra application: `osftx +experiment=NAME [overrides]`, or `python -m osftx ...`.

Only `cli` and `sweep` use Hydra. The exit codes are `osftx.errors.ExitCode`.
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

from osftx.cli.callback import PastHydra
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
from osftx.sweep.words import NO_CHDIR, repeated_keys
from osftx.utils.console import leave, replace_what_cannot_be_shown


def main() -> None:
    """Runs one command line. Ends the program with an exit code unless the command succeeds."""
    replace_what_cannot_be_shown()
    for number in (Signals.SIGTERM, Signals.SIGUSR1):
        signal(number, _stop)
    _register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra pass its errors on, so that they can be explained here
    with open_session() as session:
        try:
            _compose_and_run(session)
        except SystemExit as ended:  # also raised by a sweep with failed jobs
            message = getattr(ended, "message", "see the output of the first node")
            session.cluster.end(int(ended.code or 0), message)
            raise
        session.cluster.end(ExitCode.done)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """Handles SIGTERM and SIGUSR1 while no ranks are running."""
    name = Signals(number).name
    raise StopSignal(f"stopped by {name}; give the same command again to go on: what is done is reused")


def _register() -> None:
    """Registers the schema and the sweeper with Hydra."""
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    plugins = Plugins.instance()  # Hydra does not find our plugin in an editable install
    from hydra_plugins.osftx_optuna.sweeper import OptunaSweeper  # afterwards: Hydra executes imported plugins again

    plugins.register(OptunaSweeper)


def _compose_and_run(session: Session) -> None:
    """Has Hydra compose the configuration and run it, once or as a sweep. Every error except a bug ends the program."""
    if found := list(repeated_keys(sys.argv[1:])):
        leave(str(ConfigurationError(found)), ExitCode.wrong_configuration)
    application = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=CONFIG_NAME)
    try:
        application(Task(session.cluster).run)()
    except lost_job_errors() as error:
        with suppress(SystemExit):  # raised with the exit code of another failed job
            session.end_sweep()  # Hydra does not call it after such an error
        leave(lost_job(error), ExitCode.training_failed)
    except (Exception, PastHydra, StopSignal, KeyboardInterrupt) as raised:
        cause = raised.error if isinstance(raised, PastHydra) else raised
        ended = ending(cause, sys.argv[1:])
        if ended is None:
            raise
        leave(*ended)


@dataclass(frozen=True)
class Task:
    """The task that Hydra runs for each composed configuration. Launchers pickle it for the process of a job."""

    cluster: Cluster

    def run(self, composed: DictConfig) -> Objective:
        """Runs one configuration. In a sweep it returns the objective, and a failure does not end the sweep."""
        replace_what_cannot_be_shown()  # a launcher may run this in a process of its own
        hydra_config = HydraConfig.get()
        in_sweep = hydra_config.mode is RunMode.MULTIRUN
        try:
            if in_sweep:
                return run_sweep_job(composed, hydra_config, self.cluster)
            if hydra_config.job.chdir:
                raise ConfigurationError([NO_CHDIR])
            if composed.sweep.resume is not None:
                raise ConfigurationError([f"{RESUME}={composed.sweep.resume}: not a sweep; add -m, or leave it out"])
            run(composed, sys.argv[1:], self.cluster)
            return None
        except StoppedError as error:
            more = f"\n  and {RESUME}={hydra_config.sweep.dir} with it, to keep to this sweep" if in_sweep else ""
            leave(f"{error}{more}", error.exit_code)
        except (ConfigurationError, TrainingError) as error:
            leave(str(error), error.exit_code)
