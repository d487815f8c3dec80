"""Start the ranks of one phase in fresh processes and wait for them."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, getsignal, signal
from threading import Event, Thread, current_thread, main_thread
from typing import Any
from uuid import uuid4

from osftx.config.phase_spec import PhaseSpec
from osftx.config.run_layout import LOGS, PHASE, saved_steps
from osftx.config.schema import Accelerator, DistributedConfig
from osftx.errors import ConfigurationError, StoppedError, TrainingError
from osftx.launch.devices import claimed, lock_folder
from osftx.launch.leader import OUTCOME_S, Nodes
from osftx.launch.outer_launcher import outer_launcher

PASSED_ON = (SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1)
"""Signals that end the ranks with this process; Slurm's `--signal` and Kubernetes announce their end with them."""
SIGNALS_TO_HANDLE = ",".join(number.name for number in PASSED_ON)
QUIET = ("torch.distributed", "torch.distributed.elastic.agent.server.api")
LOCAL_ENDPOINT = "127.0.0.1:0"
"""Port 0: the system chooses a free one."""
MEET_S = 300
"""Seconds that the agents of several nodes, which all were ready, have to meet."""
PATIENCE_S = 10.0
"""Seconds that the ranks have to end by themselves, saving perhaps, when others of their phase have failed."""
POLL_S = 0.2
CAUSE_LINES = 3
"""Of a failed rank's exception: CUDA's begin with what happened and end with advice for debugging."""


def launch(spec: PhaseSpec) -> None:
    """Run `python -m osftx.worker <folder>/phase.yaml` on the ranks of all nodes, on GPUs that no other run holds.

    Rank 0 prints its progress; what every rank writes to stderr is in `<folder>/logs`. Raises TrainingError naming
    phase, rank and cause; StoppedError when a signal ended it, after which a phase with `resume` may have been saved.
    """
    nodes = Nodes.current
    with exclusive_devices(spec.distributed, f"phase {spec.name!r}") as devices:
        if nodes is None:
            run_ranks(spec, devices)
            return

        def run(endpoint: str, failed_elsewhere: Callable[[], bool]) -> None:
            run_ranks(spec, devices, endpoint, failed_elsewhere)

        grace_s = spec.resume.checkpointing.grace_s if spec.resume is not None else 0
        nodes.together(Path(spec.folder) / PHASE, run, OUTCOME_S + grace_s)


def run_ranks(
    spec: PhaseSpec,
    devices: list[str],
    endpoint: str = LOCAL_ENDPOINT,
    failed_elsewhere: Callable[[], bool] = lambda: False,
) -> None:
    """Run this node's ranks and wait for them. With several nodes the `endpoint` is where all ranks meet, and
    the ranks are ended soon after `failed_elsewhere` has become true. Raises as `launch`."""
    # Imports torch, so only where ranks are really started.
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for logger in QUIET:  # their causes are told below, once
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    group = spec.distributed
    several = endpoint != LOCAL_ENDPOINT
    logs = Path(spec.folder) / LOGS / (f"node_{group.node_rank}" if several else "")
    logs.mkdir(parents=True, exist_ok=True)
    streams = {rank: Std.ALL for rank in range(1, group.nproc_per_node)} | {0: Std.ERR}
    # c10d ignores node_rank, static takes it as it is. On one node nobody else has to know where the ranks meet: with a
    # free port and an id of its own, a run never meets another one of this machine.
    run_id = str(group.rdzv_id + spec.index)
    config = LaunchConfig(
        min_nodes=group.nnodes,
        max_nodes=group.nnodes,
        nproc_per_node=group.nproc_per_node,
        run_id=run_id if several else f"{run_id}-{uuid4().hex[:8]}",
        rdzv_endpoint=endpoint,
        rdzv_backend="static" if several else "c10d",
        rdzv_configs={"rank": group.node_rank, "timeout": MEET_S} if several else {},
        max_restarts=0,
        monitor_interval=0.2,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=streams),
        **_shutdown(LaunchConfig, spec),
    )
    command = ["-u", "-m", "osftx.worker", str(Path(spec.folder) / PHASE), str(os.getpid())]
    ended_here = Event()
    try:
        with environment(group, devices), _own_signals(), _ended_with(failed_elsewhere, ended_here):
            elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == os.EX_TEMPFAIL:
            raise StoppedError(f"phase {spec.name!r} was stopped by a signal to its ranks{_saved(spec)}") from error
        # By its place, since a rank that was killed has left no error file to look beside.
        found = logs.glob(f"*/attempt_0/{failure.local_rank}/stderr.log")
        log = max(found, key=lambda path: path.stat().st_mtime, default=logs)
        raise TrainingError(
            f"phase {spec.name!r} failed on rank {rank} (exit code {failure.exitcode}): {_cause(failure.message)}\n"
            f"  full log: {log}"
        ) from error
    except SignalException as error:
        if error.sigval is SIGINT:
            raise KeyboardInterrupt from error
        if ended_here.is_set():
            raise TrainingError(
                f"phase {spec.name!r} was ended, since its ranks on another node were{_saved(spec)}"
            ) from error
        raise StoppedError(f"phase {spec.name!r} was stopped by {error.sigval.name}{_saved(spec)}") from error
    except (RendezvousError, DistError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        place = f"at {endpoint}, a free port of the first node" if several else "on this machine"
        raise TrainingError(
            f"phase {spec.name!r}: the ranks could not meet {place} ({type(error).__name__}: {reason})"
        ) from error


def check_devices(distributed: DistributedConfig, use_liger: bool) -> None:
    """Raise ConfigurationError when this machine has not the GPUs that are asked for. Imports torch."""
    import torch

    gpus = torch.cuda.device_count()
    asked, wanted = distributed.accelerator, distributed.nproc_per_node
    outer = outer_launcher(os.environ)
    beside = outer.local_size if outer is not None and outer.a_rank_each else None
    # Otherwise the launcher may have shown each process one of its own.
    seen_by_all = gpus > 1 or "CUDA_VISIBLE_DEVICES" not in os.environ
    problems = []
    if asked is Accelerator.cuda and gpus == 0:
        problems.append("distributed.accelerator=cuda: this machine has no GPU that torch can use; try distributed=cpu")
    if asked is not Accelerator.cpu and 0 < gpus < wanted:
        problems.append(
            f"distributed.nproc_per_node={wanted}: this machine has {gpus} GPUs; set distributed.nproc_per_node={gpus}"
        )
    if outer is not None and asked is not Accelerator.cpu and beside and 0 < gpus < beside and seen_by_all:
        problems.append(
            f"{outer.launcher} has started {beside} processes on this machine, one for each rank, and they see {gpus} "
            f"GPUs; start {gpus} on each machine"
        )
    if asked is Accelerator.auto and gpus == 0 and use_liger:
        problems.append(
            "training.use_liger=true: Liger's kernels need a GPU and there is none; set training.use_liger=false"
        )
    if problems:
        raise ConfigurationError(problems)


def _shutdown(launch_config: type, spec: PhaseSpec) -> dict[str, Any]:
    """How torch's agent ends the ranks: the keywords that its version has."""
    wanted: dict[str, Any] = {"signals_to_handle": SIGNALS_TO_HANDLE}
    if spec.resume is not None:
        wanted["shutdown_timeout"] = spec.resume.checkpointing.grace_s
    known = {field.name for field in fields(launch_config)}
    return {key: value for key, value in wanted.items() if key in known}


def _saved(spec: PhaseSpec) -> str:
    """How far a phase that was stopped has been saved, in words to follow that it was."""
    saved = saved_steps(Path(spec.resume.folder)) if spec.resume is not None else []
    return f"; saved after step {saved[0]}" if saved else "; nothing of it was saved"


@contextmanager
def _own_signals() -> Iterator[None]:
    """torch's agent takes over the signals of this process and does not give them back."""
    if current_thread() is not main_thread():  # torch takes none there
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
    """Meanwhile the agent gets SIGTERM, which ends its ranks, when they outlive a failure elsewhere: they may be
    waiting for ranks that are gone. `ended_here` tells it from a SIGTERM of somebody else."""
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


def _cause(message: str | dict[str, object]) -> str:
    """The exception that `record` has kept (class and text, of which the first lines), else the last line of a text."""
    lines = str(message["message"] if isinstance(message, dict) else message).strip().splitlines()
    wanted = lines[:CAUSE_LINES] if isinstance(message, dict) else lines[-1:]
    return " ".join(line.strip() for line in wanted) or "no message was left"


@contextmanager
def exclusive_devices(group: DistributedConfig, user: str) -> Iterator[list[str]]:
    """Hold a GPU for each of this node's processes; none are named where there is nothing to claim.

    `user` is who wants them, for messages. Raises TrainingError.
    """
    outer = outer_launcher(os.environ)
    own = outer.local_rank if outer is not None and outer.a_rank_each else None
    names = []
    if group.accelerator is not Accelerator.cpu and (group.exclusive_devices or own is not None):
        names = _visible_gpus()
    if names and own is not None:
        # No other one, were it free: two runs whose processes each hold some, and wait for the rest, would never begin.
        names = [names[own % len(names)]]
    with ExitStack() as claim:
        held = names[:1]
        if names and group.exclusive_devices:
            folder = lock_folder()
            try:
                held = claim.enter_context(claimed(names, group.nproc_per_node, folder))
            except OSError as error:
                raise TrainingError(
                    f"{user}: no GPU could be claimed, since {folder} cannot be written "
                    f"({error.strerror}); mend it, or set distributed.exclusive_devices=false"
                ) from error
        yield held


def _visible_gpus() -> list[str]:
    """The names under which CUDA_VISIBLE_DEVICES knows the GPUs that this process sees, in torch's order.

    Not their numbers: those begin at 0 in each container or job of a cluster, whichever GPUs it was given.
    """
    import torch

    count = torch.cuda.device_count()
    listed = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if listed[0].startswith("MIG-"):  # the properties of a part of a GPU do not tell its name
        return listed[:count]
    return [f"GPU-{torch.cuda.get_device_properties(place).uuid}" for place in range(count)]


@contextmanager
def environment(group: DistributedConfig, devices: list[str]) -> Iterator[None]:
    """What must be in place before the interpreter of a rank starts; put back afterwards."""
    wanted = {
        "OMP_NUM_THREADS": str(group.omp_num_threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHELASTIC_SIGNALS_TO_HANDLE": SIGNALS_TO_HANDLE,  # earlier versions of torch read it here
    }
    if devices:
        wanted["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if group.accelerator is not Accelerator.auto:
        wanted["DS_ACCELERATOR"] = group.accelerator.value
    if group.accelerator is not Accelerator.cpu:
        # Halves the host memory that glibc keeps after the model is read. Where the CPU trains as well, giving every
        # activation back to the system makes a step a third slower.
        wanted["MALLOC_MMAP_THRESHOLD_"] = "65536"
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
