"""`python -m osftx +experiment=NAME [overrides]`: compose, validate, plan, run.

Hydra is known here, in `hydra_errors.py`, `parallel.py` and `sweep/`.

Exit codes: 0 done; 1 training failed; 2 the configuration or the data is wrong, nothing was started.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import Signals, signal
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from osftx.cli.hydra_errors import explain, no_option, reaching_every_phase
from osftx.config.load import typed
from osftx.config.run_layout import CONFIG, JOB_OUTPUT, PLAN, REPORT, RUN_DATA
from osftx.config.schema import ExperimentConfig
from osftx.config.validate import problems
from osftx.errors import ConfigurationError, StoppedError, StopSignal, TrainingError
from osftx.launch.follower import meet
from osftx.launch.launcher import check_devices
from osftx.launch.leader import Nodes
from osftx.launch.outer_launcher import outer_launcher, placed
from osftx.results.job_record import Job, Objective
from osftx.results.sweep_reader import read_job
from osftx.runs.run_folder import alone_in, dated, make_run_folder, remove_empty
from osftx.sweep.callback import RESUME, Summary
from osftx.sweep.job import run_job
from osftx.sweep.parallel import DryRunHere, in_parallel, lost_job_errors, own_output
from osftx.sweep.pruning import between_phases
from osftx.utils.files import write_json, write_text

CONFIG_NAME = "config"


def conf_folder() -> Path:
    """The YAML groups: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=CONFIG_NAME)
def job(composed: DictConfig) -> Objective:
    """One run. In a sweep it returns the objective to the sweeper, and a failure does not end the sweep."""
    hydra_config = HydraConfig.get()
    try:
        if hydra_config.mode is not RunMode.MULTIRUN:
            if composed.sweep.resume is not None:
                raise ConfigurationError([f"{RESUME}={composed.sweep.resume}: not a sweep; add -m, or leave it out"])
            run(composed, sys.argv[1:])
            return None
        if in_parallel(hydra_config) and not composed.dry_run:
            return _with_own_output(composed, hydra_config)
        return _job_of_sweep(composed, hydra_config)
    except ConfigurationError as error:
        _leave(str(error), 2)
    except StoppedError as error:
        in_sweep = hydra_config.mode is RunMode.MULTIRUN
        more = f"\n  and {RESUME}={hydra_config.sweep.dir} with it, to keep to this sweep" if in_sweep else ""
        _leave(f"{error}{more}", 1)
    except TrainingError as error:
        _leave(str(error), 1)


def _job_of_sweep(composed: DictConfig, hydra_config: HydraConf) -> Objective:
    """Run one job, which leaves its record, or find that it was done before."""
    arguments = _arguments(hydra_config)
    pruning = between_phases(hydra_config.sweeper, Path(hydra_config.sweep.dir))
    return run_job(
        Job(hydra_config.job.num, _overrides(hydra_config)),
        Path(hydra_config.runtime.output_dir),
        lambda: run(composed, arguments, pruning),
        resumed=composed.sweep.resume is not None,
    )


def _with_own_output(composed: DictConfig, hydra_config: HydraConf) -> Objective:
    """One job of several at a time: the screen gets a line when it starts and one when it ends."""
    number, folder = hydra_config.job.num, Path(hydra_config.runtime.output_dir)
    log, start = folder / JOB_OUTPUT, time.monotonic()
    with own_output(log) as screen:
        words = " ".join(_overrides(hydra_config))
        print(f"Job {number} starts, output in {log}: {words}", file=screen, flush=True)
        outcome = "stopped"
        try:
            objective = _job_of_sweep(composed, hydra_config)
            record = read_job(folder)
            outcome = record.state.value if record is not None else "ended without a record"
        finally:
            print(f"Job {number} {outcome} after {time.monotonic() - start:.0f} s", file=screen, flush=True)
    return objective


def _overrides(hydra_config: HydraConf) -> list[str]:
    """What makes this job, whether its sweep is resumed or not."""
    return [word for word in hydra_config.overrides.task if not word.startswith(f"{RESUME}=")]


def _arguments(hydra_config: HydraConf) -> list[str]:
    """The words after `python -m osftx` that give this job of a sweep alone.

    A launcher's process has other words on its own command line.
    """
    words = []
    if (name := hydra_config.job.config_name) is not None and name != CONFIG_NAME:
        words += ["--config-name", name]
    for source in hydra_config.runtime.config_sources:
        if source.provider == "command-line":
            words += ["--config-dir", source.path]
    words += [word for word in hydra_config.overrides.hydra if word.lstrip("+").startswith("hydra.searchpath=")]
    return [*words, *_overrides(hydra_config)]


def run(
    composed: DictConfig, arguments: list[str], between: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any] | None:
    """Check, plan and run one composed configuration; returns its results, None after a dry run and on other nodes than
    the first.

    `arguments` are the words after `python -m osftx` that give the same run again; `between` is called between two
    phases. Raises ConfigurationError before anything is started, TrainingError afterwards.
    """
    config = typed(composed)
    outer = outer_launcher(os.environ)
    config.distributed = placed(config.distributed, outer, arguments)
    if found := [*reaching_every_phase(arguments), *problems(config)]:
        raise ConfigurationError(found)
    # Heavier imports, once the settings are known to make sense.
    from osftx.planning.preflight import check
    from osftx.planning.show_plan import show_plan

    if outer is not None and outer.rank > 0 and (config.dry_run or config.inspect_data is not None):
        return None  # once is enough
    # A sweep that is resumed asks for the same runs.
    asked = OmegaConf.to_yaml(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "sweep"]))
    if config.dry_run and config.output_dir is not None:  # the usual one may be on another machine
        remove_empty(make_run_folder(config, Path(config.output_dir), asked)[1])
    if config.dry_run and not config.plan.calibrate:
        show_plan(check(config, data_folder=None).plan)
        return None
    if config.inspect_data is not None:
        _inspect(config, config.inspect_data)
        return None
    ended = meet(config.distributed, OmegaConf.to_container(composed))
    if ended is not None:
        code, message = ended
        return _leave(message, code) if code else None
    check_devices(config.distributed, any(phase.use_liger for phase in config.phases.values()))
    if config.dry_run:
        _calibrate(config)
        return None
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        usual = Path(HydraConfig.get().runtime.output_dir)
    else:
        usual = dated(Path("outputs") / config.name)
    run_folder, made = make_run_folder(config, usual, asked)
    try:
        with alone_in(run_folder):
            checked = check(config, run_folder / RUN_DATA)
            from osftx.planning.calibration import calibrate
            from osftx.planning.room import check_room
            from osftx.runs import orchestrator

            check_room(config, checked, run_folder)
            if config.plan.calibrate:
                calibrate(config, checked)
            write_text(run_folder / CONFIG, asked)
            write_json(run_folder / PLAN, checked.plan.to_dict())
            show_plan(checked.plan)
            results = orchestrator.run(config, checked, run_folder, arguments, between)
    except ConfigurationError:
        remove_empty(made)
        raise
    print(f"\nRun folder: {run_folder}\nReport:     {run_folder / REPORT}")
    return results


def _calibrate(config: ExperimentConfig) -> None:
    from osftx.planning.calibration import calibrate
    from osftx.planning.preflight import check
    from osftx.planning.resources import lacking
    from osftx.planning.show_plan import show_plan

    with TemporaryDirectory(prefix="osftx-data-") as scratch:
        checked = check(config, Path(scratch) / RUN_DATA)
        checked.plan.warnings += lacking(config, checked.plan.phases, None)
        calibrate(config, checked)
    show_plan(checked.plan)


def _inspect(config: ExperimentConfig, samples: int) -> None:
    from osftx.cli.inspect_data import show_data
    from osftx.planning.preflight import check

    if HydraConfig.get().mode is RunMode.MULTIRUN:
        raise ConfigurationError([f"inspect_data={samples}: shows the data of one run; leave out -m"])
    with TemporaryDirectory(prefix="osftx-data-") as scratch:  # where it cannot be kept for the run itself
        show_data(check(config, Path(scratch) / RUN_DATA, fetch_model=False), samples)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """What SIGTERM and SIGUSR1 do while no ranks are running."""
    name = Signals(number).name
    raise StopSignal(f"stopped by {name}; give the same command again to go on: what is done is reused")


def main() -> None:
    for number in (Signals.SIGTERM, Signals.SIGUSR1):
        signal(number, _stop)
    ConfigStore.instance().store(name="schema", node=ExperimentConfig)
    plugins = Plugins.instance()  # those that Hydra finds; in an editable install it does not find ours
    from hydra_plugins.osftx_optuna.sweeper import OptunaSweeper  # afterwards: Hydra executes again what is imported

    plugins.register(OptunaSweeper)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra lets its errors through, to be told here
    try:
        job()
        _part(0)
    except SystemExit as ended:  # also of a sweep with jobs that failed
        _part(int(ended.code or 0), "see the output of the first node")
        raise
    except StopSignal as error:
        _leave(str(error), 1)
    except ConfigurationError as error:  # of a sweep as a whole
        _leave(str(error), 2)
    except (HydraException, OmegaConfBaseException) as error:
        _leave(explain(error), 2)
    except ValueError as error:
        if not str(error).startswith("Config group override"):  # Hydra's own, without a class of its own
            raise
        _leave(no_option(sys.argv[1:], conf_folder()), 2)
    except YAMLError as error:
        _leave(f"a configuration file is not YAML: {' '.join(str(error).split())}", 2)
    except lost_job_errors() as error:
        if DryRunHere.config is not None:
            with suppress(SystemExit):  # with the code of a job that failed
                Summary().on_multirun_end(DryRunHere.config)  # Hydra does not get so far
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _leave(
            "the process of a job has ended without a result (killed, out of memory, out of time?); jobs of a cluster "
            f"that are still queued or running go on: {reason}",
            1,
        )
    except KeyboardInterrupt:
        _leave(
            "interrupted; give the same command again to go on from the last save (SIGTERM, as from `kill`, saves)", 130
        )


def _leave(message: str, code: int) -> NoReturn:
    print(f"osftx: {message}", file=sys.stderr, flush=True)
    _part(code, message)
    sys.exit(code)


def _part(code: int, message: str = "") -> None:
    """Let the other nodes go, the last thing that the first one does: a launcher around may end all with the first."""
    if Nodes.current is not None:
        Nodes.current.end(code, message)


if __name__ == "__main__":
    main()
