"""What a sweep does in its folder before the first job and after the last one."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, flag_override

from osftx.config.run_layout import JOB, LOCK, SWEEP, SWEEP_CONFIG, SWEEP_REPORT
from osftx.errors import ConfigurationError, ExitCode
from osftx.launch.cluster import Cluster
from osftx.results.job_record import Job, State
from osftx.results.sweep_reader import read_job, read_jobs
from osftx.sweep.axes import axis_problems
from osftx.sweep.nodes import meet_for_sweep
from osftx.sweep.parallel import run_one_at_a_time
from osftx.sweep.resume import FOLDER, RESUME, why_another_sweep, why_not_resumed
from osftx.sweep.summary import summarize
from osftx.sweep.words import NO_CHDIR
from osftx.utils.console import leave
from osftx.utils.files import expanded, of_no_user
from osftx.utils.locks import HeldError, immediate_lock


class RunningSweep:
    """The sweep that this process runs, or checks in a dry run. It holds the lock of its folder until it is closed.

    `config` is Hydra's configuration of the sweep. Each job is composed anew from its overrides and those of the job.
    """

    def __init__(self, config: DictConfig):
        self._config = config
        self._held = ExitStack()

    def begin(self, cluster: Cluster) -> None:
        """Brings the nodes of the sweep together and prepares its folder, which is a temporary one in a dry run.

        Ends the program if the sweep cannot start, because Hydra would turn an exception here into a warning.
        """
        if self._config.dry_run:
            run_one_at_a_time(self._config)
        else:
            meet_for_sweep(self._config, cluster)
        if problems := [*_why_no_sweep(self._config), *axis_problems(self._config)]:
            leave(
                problems[0] if len(problems) == 1 else str(ConfigurationError(problems)), ExitCode.wrong_configuration
            )
        resumed = self._config.sweep.resume
        folder = expanded(self._config.hydra.sweep.dir if resumed is None else resumed)
        named = f"{FOLDER}={folder}" if resumed is None else f"{RESUME}={resumed}"
        try:
            problem = of_no_user(folder) or self._prepare(folder)
        except HeldError:
            problem = "another sweep is running there; wait for it, or choose another folder"
        except OSError as error:
            problem = f"cannot be written ({error.strerror}); choose another folder"
        if problem is not None:
            leave(f"{named}: {problem}", ExitCode.wrong_configuration)

    def _prepare(self, folder: Path) -> str | None:
        """Prepares the folder of the sweep; returns why the sweep cannot be resumed there, or None.

        Raises HeldError if another sweep runs in `folder`, OSError if it cannot be written.
        """
        config, resumed = self._config, self._config.sweep.resume is not None
        if resumed and (problem := why_not_resumed(config, folder)) is not None:
            return problem
        if not resumed and (other := _something_else(config, folder)) is not None:
            return f"{other}; choose a new or an empty folder"
        if config.dry_run:
            scratch = self._held.enter_context(TemporaryDirectory(prefix="osftx-dry-run-"))
            _set_folder(config, Path(scratch))
            return None
        folder.mkdir(parents=True, exist_ok=True)
        self._held.enter_context(immediate_lock(folder / LOCK))
        if resumed:
            _forget_failed_jobs(folder)
        else:
            _forget_earlier_sweep(folder)
        if str(folder) != config.hydra.sweep.dir:
            _set_folder(config, folder)
        return None

    def end(self) -> None:
        """Summarizes the jobs that have ended and closes the sweep. If some jobs failed, ends the program.

        The exit code is 1 if training failed in some job, otherwise 2, for a wrong configuration of some job.
        """
        folder = Path(self._config.hydra.sweep.dir)
        jobs = read_jobs(folder)
        codes = {job.exit_code for job in jobs} - {ExitCode.done}
        try:
            if jobs and not self._config.dry_run:
                summarize(self._config, jobs, folder)
        finally:
            self.close()
            if codes:
                sys.exit(min(codes))

    def close(self) -> None:
        """Releases the lock of the sweep folder, or removes the temporary folder of a dry run."""
        self._held.close()


def _why_no_sweep(config: DictConfig) -> Iterator[str]:
    """Yields a problem for each setting that does not make sense for several jobs, with the remedy."""
    shared = OmegaConf.to_container(config, resolve=False)["output_dir"]  # type: ignore[index, call-overload]
    if shared is not None and "${" not in shared:
        yield f"output_dir={shared}: the jobs of a sweep cannot share it; use {FOLDER}"
    if OmegaConf.select(config, "hydra.launcher.n_jobs") == 0:
        yield "hydra.launcher.n_jobs=0: joblib runs 1 or more jobs at a time, or -1 for one a core; set it"
    if OmegaConf.select(config, "hydra.job.chdir"):
        yield NO_CHDIR


def _set_folder(config: DictConfig, folder: Path) -> None:
    """Sets the sweep folder as if on the command line, because the jobs are composed anew with Hydra's overrides."""
    with flag_override(config.hydra, ["readonly", "struct"], [False, False]):
        others = [word for word in config.hydra.overrides.hydra if not word.startswith(f"{FOLDER}=")]
        config.hydra.overrides.hydra = [*others, f"{FOLDER}={QuotedString(str(folder), Quote.single).with_quotes()}"]
        config.hydra.sweep.dir = str(folder)


def _forget_failed_jobs(folder: Path) -> None:
    """Removes the records of failed jobs, which a search repeats under other numbers."""
    for path, job in _records(folder):
        if job.state is State.failed:
            path.unlink(missing_ok=True)


def _forget_earlier_sweep(folder: Path) -> None:
    """Removes the records and the summary of an earlier sweep in the same folder."""
    records = [path for path, _ in _records(folder)]
    for path in (*records, folder / SWEEP, folder / SWEEP_REPORT):
        path.unlink(missing_ok=True)


def _records(folder: Path) -> list[tuple[Path, Job]]:
    """Returns the files in the folders of jobs that are records of jobs, and what they hold."""
    read = ((path, read_job(path.parent)) for path in folder.glob(f"*/{JOB}") if path.parent.name.isdigit())
    return [(path, job) for path, job in read if job is not None]


def _something_else(config: DictConfig, folder: Path) -> str | None:
    """Returns what a folder holds that is not the sweep of this configuration; None if there is nothing else."""
    if not folder.is_dir():
        return None
    if (folder / SWEEP_CONFIG).is_file():
        other = why_another_sweep(config, folder)
        return None if other is None else f"holds a sweep already, which {other}"
    found = next((name for name in sorted(path.name for path in folder.iterdir()) if name != LOCK), None)
    return None if found is None else f"holds {found} and no sweep"
