"""What Hydra calls when a sweep begins and when it has ended (conf/config.yaml names it)."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NoReturn

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override
from yaml import YAMLError

from osftx.config.identity import Use, counting
from osftx.config.objective import Direction, as_list, direction
from osftx.config.run_layout import JOB, LOCK, SWEEP, SWEEP_CONFIG, SWEEP_REPORT
from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, TrainingError
from osftx.launch.follower import meet
from osftx.launch.outer_launcher import outer_launcher, placed
from osftx.results.job_record import State
from osftx.results.sweep_reader import read_jobs
from osftx.sweep.table import Sweep, show, write

BASIC_LAUNCHER = "BasicLauncher"
RESUME = "sweep.resume"
FOLDER = "hydra.sweep.dir"


class Summary(Callback):
    """Prepares the sweep folder, and sums up what the jobs left there.

    Hydra turns an exception raised here into a warning, so a sweep that must not start ends the program.
    """

    # Of the class, since launchers pickle the object.
    _of_a_dry_run: ClassVar[TemporaryDirectory[str] | None] = None
    _alone: ClassVar[FileLock | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        if not config.dry_run:
            _meet(config)
        resumed = config.sweep.resume
        folder = Path(config.hydra.sweep.dir if resumed is None else resumed).expanduser()
        named = f"hydra.sweep.dir={folder}" if resumed is None else f"{RESUME}={resumed}"
        shared = OmegaConf.to_container(config, resolve=False)["output_dir"]  # type: ignore[index, call-overload]
        if shared is not None and "${" not in shared:
            _refuse(f"output_dir={shared}: the jobs of a sweep cannot share it; use hydra.sweep.dir")
        if OmegaConf.select(config, "hydra.launcher.n_jobs") == 0:
            _refuse("hydra.launcher.n_jobs=0: joblib runs 1 or more jobs at a time, or -1 for one a core; set it")
        try:
            if resumed is not None and (problem := _why_not(config, folder)) is not None:
                _refuse(f"{named}: {problem}")
            if config.dry_run:  # its records go when the process ends
                Summary._of_a_dry_run = TemporaryDirectory(prefix="osftx-dry-run-")
                _set_folder(config, Path(Summary._of_a_dry_run.name))
                return
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK)
            lock.acquire(timeout=0)
            Summary._alone = lock  # until this process ends
            if resumed is not None:
                for job in read_jobs(folder):
                    if job.state is State.failed:  # a search tries it again under another number
                        (folder / str(job.number) / JOB).unlink(missing_ok=True)
                _set_folder(config, folder)
            else:
                for path in (*folder.glob(f"*/{JOB}"), folder / SWEEP, folder / SWEEP_REPORT):
                    path.unlink(missing_ok=True)  # of an earlier sweep in the same folder
        except Timeout:
            _refuse(f"{named}: another sweep is running there; wait for it, or choose another folder")
        except OSError as error:
            _refuse(f"{named}: cannot be written ({error.strerror}); choose another folder")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        jobs = read_jobs(folder)
        codes = {job.exit_code for job in jobs} - {0}
        try:
            if jobs and not config.dry_run:
                sweep = Sweep.of(jobs, *_objectives(config), _swept_keys(config))
                write(sweep, folder)
                show(sweep, folder)
        finally:
            if Summary._of_a_dry_run is not None:
                Summary._of_a_dry_run.cleanup()
            if Summary._alone is not None:
                Summary._alone.release()
            if codes:
                sys.exit(min(codes))


def _meet(config: DictConfig) -> None:
    """Lets the first node run the sweep; the others serve its jobs, and leave the program when it has ended."""
    words = list(config.hydra.overrides.task)
    try:
        given = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DistributedConfig), config.distributed))
        assert isinstance(given, DistributedConfig)
        distributed = placed(given, outer_launcher(os.environ), words)
        if distributed.nnodes > 1 and not str(config.hydra.launcher._target_).endswith(BASIC_LAUNCHER):
            _refuse(
                f"distributed.nnodes={distributed.nnodes}: the jobs of such a sweep run one after the other; leave "
                "hydra/launcher out"
            )
        asked = [word for word in words if not word.lstrip("+").startswith("distributed.node_rank=")]
        ended = meet(distributed, {"command": asked})
    except ConfigurationError as error:
        _refuse(str(error))
    except TrainingError as error:
        _refuse(str(error), 1)
    if ended is not None:
        code, message = ended
        if code:
            _refuse(message, code)
        sys.exit(0)


def _refuse(problem: str, code: int = 2) -> NoReturn:
    print(f"osftx: {problem}", file=sys.stderr, flush=True)
    sys.exit(code)


def _set_folder(config: DictConfig, folder: Path) -> None:
    """Sets the sweep folder as if it were given on the command line, since jobs are composed anew with Hydra's
    overrides."""
    with flag_override(config.hydra, ["readonly", "struct"], [False, False]):
        others = [word for word in config.hydra.overrides.hydra if not word.startswith(f"{FOLDER}=")]
        config.hydra.overrides.hydra = [*others, f"{FOLDER}={QuotedString(str(folder), Quote.single).with_quotes()}"]
        config.hydra.sweep.dir = str(folder)


def _why_not(config: DictConfig, folder: Path) -> str | None:
    """Returns why the sweep in `folder` cannot go on with this configuration; None if it can."""
    if any(word.startswith(f"{FOLDER}=") for word in config.hydra.overrides.hydra):
        return f"is the sweep's folder already; leave {FOLDER} out"
    saved = folder / SWEEP_CONFIG
    if not saved.is_file():
        return "holds no sweep; correct the folder, or leave sweep.resume out"
    try:
        there = _asked(OmegaConf.load(saved))
    except (OSError, ValueError, TypeError, LookupError, AssertionError, YAMLError) as error:
        return f"its {SWEEP_CONFIG} cannot be read ({type(error).__name__}); start the sweep anew"
    here = _asked(OmegaConf.create(OmegaConf.to_yaml(config)))
    if there["overrides"] != here["overrides"]:
        return f"was made with other overrides ({' '.join(there['overrides'])}); give the same ones, or leave it out"
    if others := [key for key in here if here[key] != there.get(key)]:
        return f"was made with other settings of {', '.join(others)}; set them back, or leave it out"
    return None


def _asked(config: Any) -> dict[str, Any]:
    """Returns what decides the jobs of a sweep: its overrides, what it searches over, and what these act on."""
    content = OmegaConf.to_container(config)
    assert isinstance(content, dict)
    hydra = content.pop("hydra")
    overrides = hydra["overrides"]["task"]
    rest = counting({str(key): value for key, value in content.items()}, Use.SWEEP)
    sweeper = {f"hydra.sweeper.{key}": hydra["sweeper"].get(key) for key in ("_target_", "params")}
    return {
        "overrides": [word for word in overrides if word.split("=")[0] not in (RESUME, "dry_run")],
        **sweeper,
        **rest,
    }


def _objectives(config: DictConfig) -> tuple[list[str], list[Direction]]:
    objectives = [str(path) for path in as_list(config.objective)]
    chosen = config.hydra.sweeper.get("directions")
    if chosen is None:
        return objectives, [_direction(path) for path in objectives]
    return objectives, [Direction(towards) for towards in as_list(chosen)]


def _direction(objective: str) -> Direction:
    try:
        return direction(objective)
    except ValueError as error:
        print(f"osftx: objective={objective}: {error}; until then more of it is better", file=sys.stderr, flush=True)
        return Direction.maximize


def _swept_keys(config: DictConfig) -> list[str]:
    """Returns the keys with several values, in the configuration's `params` and on the command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])
    last = {override.get_key_element(): override for override in overrides}
    return [key for key, override in last.items() if override.is_sweep_override()]
