"""Starts this machine's ranks of one phase with torch's elastic agent, and waits for them."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from json import JSONDecodeError
from pathlib import Path
from signal import SIGINT, SIGTERM, getsignal, signal
from threading import Event, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from osftx.config.meeting import STORE_FILE, only_here
from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import LOGS, PHASE, saved_steps
from osftx.errors import StoppedError, TrainingError
from osftx.launch.environment import PASSED_ON, SIGNALS_TO_HANDLE, environment, set_for_now
from osftx.utils.disk import refusal

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig

QUIET = (
    "torch.distributed",
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.errors",
)
"""Loggers of torch that would report a failure a second time."""
MEET_S = 300
"""Seconds within which the agents of several nodes, all of which were ready, must meet."""
PATIENCE_S = 10.0
"""Seconds that ranks have to end by themselves, possibly with a save, after others of their phase have failed."""
POLL_S = 0.2
CAUSE_LINES = 3
"""Number of lines shown of a failed rank's exception: CUDA's begin with the cause and end with advice for debugging."""


def run_ranks(
    spec: PhaseSpec,
    devices: list[str],
    endpoint: str | None = None,
    failed_elsewhere: Callable[[], bool] = lambda: False,
) -> None:
    """Runs `python -m osftx.worker <folder>/phase.yaml` on this machine's ranks, with these GPUs, and waits for them.

    With several nodes `endpoint` is where all ranks meet, and the ranks of this node are ended soon after
    `failed_elsewhere` returns True. Without an `endpoint` they meet through a file in a private folder. Rank 0 prints
    its progress; what each rank writes to stderr is in `<folder>/logs`.

    Raises TrainingError with phase, rank and cause; StoppedError if a signal ended the phase, which may have been saved
    if it has `resume`; KeyboardInterrupt for SIGINT.
    """
    # These imports load torch, so they are made only when ranks are started.
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    for logger in QUIET:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    logs = Path(spec.folder) / LOGS / ("" if endpoint is None else f"node_{spec.distributed.node_rank}")
    command = ["-u", "-m", "osftx.worker", str(Path(spec.folder) / PHASE), str(os.getpid())]
    ended_here = Event()
    try:
        logs.mkdir(parents=True, exist_ok=True)
        config = _launch_config(spec, endpoint, logs)
        with ExitStack() as surroundings:
            surroundings.enter_context(environment(spec.distributed, devices))
            if endpoint is None:
                surroundings.enter_context(_store_file())
            surroundings.enter_context(_own_signals())
            surroundings.enter_context(_ended_with(failed_elsewhere, ended_here))
            elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        raise _rank_failure(spec, error, logs) from error
    except SignalException as error:
        if error.sigval is SIGINT:
            raise KeyboardInterrupt from error
        raise _signal_failure(spec, error, ended_here) from error
    except (RendezvousError, DistError, OSError, JSONDecodeError) as error:
        if (refused := refusal(error, spec.folder)) is not None or isinstance(error, JSONDecodeError):
            # torch's agent fails like this on the message of a rank that a full disk has cut off.
            raise TrainingError(f"phase {spec.name!r}: {refused or _no_room(spec)}") from error
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        place = "on this machine" if endpoint is None else f"at {endpoint}, a free port of the first node"
        raise TrainingError(
            f"phase {spec.name!r}: the ranks could not meet {place} ({type(error).__name__}: {reason})"
        ) from error


@contextmanager
def _store_file() -> Iterator[None]:
    """Gives the ranks a file to meet through, in a folder of this launch alone that no other user can enter."""
    from osftx.launch.rendezvous import private_folder

    with private_folder() as folder, set_for_now({STORE_FILE: str(Path(folder) / "store")}):
        yield


def _launch_config(spec: PhaseSpec, endpoint: str | None, logs: Path) -> "LaunchConfig":
    """Returns the settings of torch's agent.

    Several nodes use the `static` rendezvous, because `c10d` ignores node_rank and unpickles what it receives.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    from osftx.launch.rendezvous import ALONE, ON_LOOPBACK, register

    register()
    group = spec.distributed
    streams = {rank: Std.ALL for rank in range(1, group.nproc_per_node)} | {0: Std.ERR}
    meeting: dict[str, Any] = {"rdzv_backend": ALONE}
    if endpoint is not None:
        here = only_here(endpoint)
        meeting = {
            "rdzv_backend": ON_LOOPBACK if here else "static",
            "rdzv_endpoint": endpoint,
            "rdzv_configs": {"rank": group.node_rank, "timeout": MEET_S},
        }
    return LaunchConfig(
        min_nodes=group.nnodes,
        max_nodes=group.nnodes,
        nproc_per_node=group.nproc_per_node,
        run_id=str(group.rdzv_id + spec.index),
        max_restarts=0,
        monitor_interval=0.2,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=streams),
        **meeting,
        **_shutdown(LaunchConfig, spec),
    )


def _shutdown(launch_config: type, spec: PhaseSpec) -> dict[str, Any]:
    """Returns how torch's agent ends the ranks, as those keywords that the installed version of torch has."""
    wanted: dict[str, Any] = {"signals_to_handle": SIGNALS_TO_HANDLE}
    if spec.resume is not None:
        wanted["shutdown_timeout"] = spec.resume.checkpointing.grace_s
    known = {field.name for field in fields(launch_config)}
    return {key: value for key, value in wanted.items() if key in known}


def _rank_failure(spec: PhaseSpec, error: "ChildFailedError", logs: Path) -> TrainingError:
    """Returns the error to raise for the first rank that failed."""
    rank, failure = error.get_first_failure()
    if failure.exitcode == os.EX_TEMPFAIL:
        return StoppedError(f"phase {spec.name!r} was stopped by a signal to its ranks{_saved(spec)}")
    # The log is found by its path: a rank that was killed has not left an error file that would lead to it.
    found = logs.glob(f"*/attempt_0/{failure.local_rank}/stderr.log")
    log = max(found, key=lambda path: path.stat().st_mtime, default=logs)
    cause = _cause(failure.message).removeprefix("OSError: ")
    if failure.exitcode == os.EX_IOERR and os.strerror(errno.ENOSPC) not in cause and spec.folder not in cause:
        cause = _no_room(spec)  # there was no room for the message itself
    return TrainingError(
        f"phase {spec.name!r} failed on rank {rank} (exit code {failure.exitcode}): {cause}\n  full log: {log}"
    )


def _no_room(spec: PhaseSpec) -> str:
    """Returns the refusal of a disk that had no room to tell more."""
    return str(refusal(OSError(errno.ENOSPC, ""), spec.folder))


def _signal_failure(spec: PhaseSpec, error: "SignalException", ended_here: Event) -> TrainingError:
    """Returns the error to raise for a signal, either one from outside or the SIGTERM of `_ended_with`."""
    if ended_here.is_set():
        return TrainingError(f"phase {spec.name!r} was ended, since its ranks on another node were{_saved(spec)}")
    return StoppedError(f"phase {spec.name!r} was stopped by {error.sigval.name}{_saved(spec)}")


def _saved(spec: PhaseSpec) -> str:
    """Returns how far a stopped phase was saved, as the end of a sentence."""
    saved = saved_steps(Path(spec.resume.folder)) if spec.resume is not None else []
    return f"; saved after step {saved[0]}" if saved else "; nothing of it was saved"


def _cause(message: str | dict[str, object]) -> str:
    """Returns the first lines of the exception that torch's `record` stored, or the last line of a plain text."""
    lines = str(message["message"] if isinstance(message, dict) else message).strip().splitlines()
    wanted = lines[:CAUSE_LINES] if isinstance(message, dict) else lines[-1:]
    return " ".join(line.strip() for line in wanted) or "no message was left"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Restores this process's signal handlers, which torch's agent replaces."""
    if current_thread() is not main_thread():  # torch replaces none in other threads
        yield
        return
    before = {number: signal(number, getsignal(number)) for number in PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal(number, handler)


@contextmanager
def _ended_with(failed_elsewhere: Callable[[], bool], ended_here: Event) -> Iterator[None]:
    """Sends SIGTERM to the agent, which ends its ranks, if they outlive a failure elsewhere by PATIENCE_S seconds.

    The ranks may be waiting for ranks that are gone. `ended_here` is set first, to distinguish this SIGTERM from
    others.
    """
    over = Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            if failed_elsewhere():
                if not over.wait(PATIENCE_S):
                    ended_here.set()
                    os.kill(os.getpid(), SIGTERM)
                return

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
