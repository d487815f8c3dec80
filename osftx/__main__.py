"""`python -m osftx +experiment=NAME [overrides]`: compose, validate, plan, run. Hydra is known here and in `sweep/`.

Exit codes: 0 done; 1 training failed; 2 the configuration or the data is wrong, nothing was started.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from difflib import get_close_matches
from os.path import expanduser
from pathlib import Path
from signal import Signals, signal
from types import FrameType
from typing import Any, NoReturn

import hydra
from filelock import FileLock, Timeout
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from osftx.config import ExperimentConfig
from osftx.conversion import typed
from osftx.errors import ConfigurationError, StoppedError, StopSignal, TrainingError
from osftx.files import write_json, write_text
from osftx.parallel import OUTPUT_FILE, DryRunHere, in_parallel, lost_job_errors, own_output
from osftx.plan import reuses
from osftx.sweep.callback import RESUME, Summary
from osftx.sweep.job import JOB_FILE, Job, Objective, run_job
from osftx.sweep.pruning import between_phases
from osftx.validate import problems

CONFIG_NAME = "config"
LOCK = ".lock"
"""In a run folder, held by the run."""


def conf_folder() -> Path:
    """The YAML groups: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parent
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
    log, start = folder / OUTPUT_FILE, time.monotonic()
    with own_output(log) as screen:
        words = " ".join(_overrides(hydra_config))
        print(f"Job {number} starts, output in {log}: {words}", file=screen, flush=True)
        outcome = "stopped"
        try:
            objective = _job_of_sweep(composed, hydra_config)
            record = Job.read(folder / JOB_FILE)
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
    """Check, plan and run one composed configuration; returns its results, None after a dry run.

    `arguments` are the words after `python -m osftx` that give the same run again; `between` is called between two
    phases. Raises ConfigurationError before anything is started, TrainingError afterwards.
    """
    config = typed(composed)
    if found := problems(config):
        raise ConfigurationError(found)
    # Heavier imports, once the settings are known to make sense.
    from osftx.display import show_plan
    from osftx.preflight import check

    if config.dry_run:
        show_plan(check(config, data_folder=None).plan)
        return None
    from osftx.launch import check_devices

    check_devices(config.distributed, any(phase.use_liger for phase in config.phases.values()))
    # A sweep that is resumed asks for the same runs.
    asked = OmegaConf.to_yaml(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "sweep"]))
    run_folder, made = _make_run_folder(config, asked)
    try:
        with _alone(run_folder) if config.distributed.node_rank == 0 else nullcontext():
            checked = check(config, run_folder / "data")
            from osftx import orchestrator

            if config.distributed.node_rank == 0:
                write_text(run_folder / "config.yaml", asked)
                write_json(run_folder / "plan.json", checked.plan.to_dict())
            show_plan(checked.plan)
            results = orchestrator.run(config, checked, run_folder, arguments, between)
    except ConfigurationError:
        _remove_empty(made)
        raise
    print(f"\nRun folder: {run_folder}\nReport:     {run_folder / 'report.html'}")
    return results or None  # on other nodes than the first there are none


def _make_run_folder(config: ExperimentConfig, composed: str) -> tuple[Path, list[Path]]:
    """The run folder, and which folders had to be made for it, the innermost first.

    A folder that holds a run is taken only for the same configuration (`composed`, as YAML): a run that was broken off
    goes on there, with what the store has of it.
    """
    if config.output_dir is not None:
        folder = Path(expanduser(config.output_dir))
    elif HydraConfig.get().mode is RunMode.MULTIRUN:
        folder = Path(HydraConfig.get().runtime.output_dir)
    else:
        folder = Path("outputs") / config.name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    if (folder / "plan.json").exists() and config.distributed.node_rank == 0:
        if not reuses(config) and config.sweep.resume is None:  # it would all be trained again, over what is there
            raise ConfigurationError(
                [f"output_dir={folder}: holds a run already; choose another folder, or remove this one"]
            )
        if not _same(folder, composed):
            raise ConfigurationError(
                [
                    f"output_dir={folder}: holds a run with another configuration already; choose another folder "
                    "(what both have in common is in the store, and is reused), or remove this one"
                ]
            )
    data = folder / "data"
    made = [path for path in (data, *data.parents) if not path.exists()]
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            [f"output_dir={folder}: cannot be written ({error.strerror}); choose a folder that you may write to"]
        ) from error
    return folder.resolve(), made


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second process out of the run folder; the lock ends with this process."""
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise ConfigurationError(
            [f"output_dir={folder}: another process is running there; wait for it, or choose another folder"]
        ) from error


def _same(folder: Path, composed: str) -> bool:
    """Whether the run in `folder` was made with this configuration."""
    try:
        return (folder / "config.yaml").read_text() == composed
    except OSError:
        return False


def _remove_empty(folders: list[Path]) -> None:
    """Nothing was started, so nothing is left behind; what was there before, or has other content, stays."""
    for path in folders:
        if path.is_dir() and not [inner for inner in path.iterdir() if inner.name != LOCK]:
            (path / LOCK).unlink(missing_ok=True)
            path.rmdir()


def _explain(error: HydraException | OmegaConfBaseException) -> str:
    """Hydra's error in a line or two: the key, what is wrong, the nearest name that exists."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    said = str(error).split("Config search path")[0].strip()
    if not isinstance(cause, OmegaConfBaseException):
        return said
    if isinstance(cause, (AttributeError, KeyError)) and cause.parent_node is not None:
        known = [str(key) for key in cause.parent_node]
        near = get_close_matches(str(cause.key), known, n=1)
        others = (
            f"known here: {', '.join(known)}"
            if known
            else f"add it with ++{str(cause.full_key).rpartition('.')[0]}={{{cause.key}:VALUE}}"
        )
        hint = f"did you mean {near[0]}?" if near else others
        return f"{cause.full_key}: no such key; {hint}"
    reason = str(cause.msg or cause).splitlines()[0]
    return f"{said}: {reason}" if cause is not error else f"{cause.full_key}: {reason}"


def _no_option(words: list[str]) -> str:
    """What Hydra does not tell: which word gives a group something that is not the name of an option."""
    given = re.compile(r"\+?(?P<group>[\w/]+)(@[\w.]*)?=(null|true|false|[-+.\d].*)", re.IGNORECASE)
    for match in filter(None, map(given.fullmatch, words)):
        folder = conf_folder() / match["group"]
        if folder.is_dir():
            options = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            nothing = "leave it out" if match[0].startswith("+") else f"write ~{match['group']}"
            return f"{match[0]}: not an option of the group; use one of {options}, or {nothing}"
    return "a group is set to something that is not the name of an option; write GROUP=OPTION or ~GROUP"


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
    except StopSignal as error:
        _leave(str(error), 1)
    except ConfigurationError as error:  # of a sweep as a whole
        _leave(str(error), 2)
    except (HydraException, OmegaConfBaseException) as error:
        _leave(_explain(error), 2)
    except ValueError as error:
        if not str(error).startswith("Config group override"):  # Hydra's own, without a class of its own
            raise
        _leave(_no_option(sys.argv[1:]), 2)
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
        _leave("interrupted", 130)


def _leave(message: str, code: int) -> NoReturn:
    print(f"osftx: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
