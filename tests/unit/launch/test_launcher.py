"""What surrounds the launch of the ranks: environment, addresses, errors. torch's launcher itself is replaced."""

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler
from torch.distributed.launcher import api

from osftx.config.meeting import STORE_FILE
from osftx.config.phase_spec import PhaseSpec, ResumeSpec
from osftx.config.run_layout import save_folder
from osftx.config.schema import (
    Accelerator,
    CheckpointingConfig,
    DistributedConfig,
    ModelConfig,
    OsftConfig,
    TrainingConfig,
)
from osftx.errors import StoppedError, TrainingError
from osftx.launch import launcher as launch_module
from osftx.launch.launcher import run_ranks
from osftx.launch.rendezvous import ALONE, ON_LOOPBACK

OUTER = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
KEYS = (
    "OMP_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "MALLOC_MMAP_THRESHOLD_",
    "DS_ACCELERATOR",
    "CUDA_VISIBLE_DEVICES",
    "GLOO_SOCKET_IFNAME",
    "NCCL_SOCKET_IFNAME",
    STORE_FILE,
)


class Launcher:
    """Stands in for `elastic_launch`: keeps its arguments and the environment that the ranks would see."""

    def __init__(self, raises: Exception | None = None):
        self.raises = raises

    def __call__(self, config: api.LaunchConfig, entrypoint: str) -> Callable[..., None]:
        def start(*command: str) -> None:
            self.config, self.command = config, [entrypoint, *command]
            self.environment = {key: os.environ.get(key) for key in KEYS}
            store = self.environment[STORE_FILE]
            self.mode = None if store is None else stat.S_IMODE(Path(store).parent.stat().st_mode)
            if self.raises is not None:
                raise self.raises

        return start


def launched(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    raises: Exception | None = None,
    resume: ResumeSpec | None = None,
    endpoint: str | None = None,
    devices: Sequence[str] = (),
    failed_elsewhere: bool = False,
    **distributed: Any,
) -> Launcher:
    spec = PhaseSpec(
        index=2,
        name="skills",
        method="osft",
        unfreeze_rank_ratio=0.2,
        model=ModelConfig(path="base"),
        training=TrainingConfig(),
        osft=OsftConfig(),
        distributed=DistributedConfig(**distributed),
        data="data",
        folder=str(folder),
        evaluation_max_tokens=64,
        resume=resume,
    )
    launcher = Launcher(raises)
    monkeypatch.setattr(api, "elastic_launch", launcher)
    run_ranks(spec, list(devices), endpoint, lambda: failed_elsewhere)
    return launcher


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable set by the user, the others not."""
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    for key in OUTER:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")


def assert_restored() -> None:
    assert {key: os.environ.get(key) for key in KEYS} == dict.fromkeys(KEYS) | {"OMP_NUM_THREADS": "64"}


@pytest.mark.parametrize(
    ("accelerator", "seen"), [(Accelerator.cpu, "cpu"), (Accelerator.cuda, "cuda"), (Accelerator.auto, None)]
)
def test_the_ranks_see_their_environment_and_this_process_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, accelerator: Accelerator, seen: str | None
) -> None:
    launcher = launched(monkeypatch, tmp_path, accelerator=accelerator, omp_num_threads=3)
    assert launcher.environment["OMP_NUM_THREADS"] == "3"
    assert launcher.environment["TOKENIZERS_PARALLELISM"] == "false"
    assert launcher.environment["DS_ACCELERATOR"] == seen
    assert_restored()


def test_the_ranks_see_the_gpus_that_were_claimed_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launcher = launched(monkeypatch, tmp_path, devices=["GPU-a", "GPU-c"])
    assert launcher.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-c"
    assert_restored()
    launcher = launched(monkeypatch, tmp_path)
    assert launcher.environment["CUDA_VISIBLE_DEVICES"] is None


def test_one_node_meets_through_a_file_of_its_own_whatever_the_endpoint_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And on the loopback interface, so that no other machine and no host name has a part in it."""
    launcher = launched(monkeypatch, tmp_path, nproc_per_node=4, rdzv_id=47, rdzv_endpoint="host:29500")
    config = launcher.config
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (1, 1, 4)
    assert (config.rdzv_backend, config.run_id) == (ALONE, "49")  # 47 + index 2
    handler = get_rendezvous_handler(RendezvousParameters(ALONE, "", config.run_id, 1, 1))
    met = handler.next_rendezvous()
    assert (met.rank, met.world_size) == (0, 1)
    assert not handler.use_agent_store
    assert (launcher.environment["GLOO_SOCKET_IFNAME"], launcher.environment["NCCL_SOCKET_IFNAME"]) == ("lo", "=lo")
    assert launcher.mode == 0o700
    store = launcher.environment[STORE_FILE]
    other = launched(monkeypatch, tmp_path, nproc_per_node=4, rdzv_id=47).environment[STORE_FILE]
    assert store != other
    assert store is not None
    assert not Path(store).parent.exists()
    assert_restored()
    assert config.max_restarts == 0
    assert launcher.command == [
        sys.executable,
        "-u",
        "-m",
        "osftx.worker",
        str(tmp_path / "phase.yaml"),
        str(os.getpid()),
    ]
    assert (tmp_path / "logs").is_dir()


def test_a_temporary_folder_whose_path_torch_would_cut_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a#b").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a#b"))
    with pytest.raises(TrainingError, match=r"could not meet on this machine .* set TMPDIR to a folder without them"):
        launched(monkeypatch, tmp_path)


def test_several_nodes_meet_under_the_rank_that_each_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And at the port that the first one has named; each has logs of its own."""
    launcher = launched(
        monkeypatch, tmp_path, endpoint="node0:4321", nnodes=2, node_rank=1, rdzv_endpoint="node0:29500"
    )
    config = launcher.config
    assert [launcher.environment[key] for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", STORE_FILE)] == [None] * 3
    assert (config.min_nodes, config.max_nodes) == (2, 2)
    assert (config.run_id, config.rdzv_endpoint, config.rdzv_backend) == ("49", "node0:4321", "static")
    assert config.rdzv_configs["rank"] == 1
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["node_1"]


def test_several_nodes_on_one_machine_meet_on_its_loopback_interface(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = launched(monkeypatch, tmp_path, endpoint="127.0.0.1:4321", nnodes=2, node_rank=1).config
    assert (config.rdzv_endpoint, config.rdzv_backend) == ("127.0.0.1:4321", ON_LOOPBACK)


def test_ranks_that_outlive_a_failure_elsewhere_are_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launch_module, "PATIENCE_S", 0.1)

    def waits_for_others(*_: str) -> None:
        def end(*_: object) -> None:
            raise SignalException("ended", signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)  # as torch's agent
        time.sleep(30)

    monkeypatch.setattr(Launcher, "__call__", lambda *_: waits_for_others)
    begun = time.monotonic()
    with pytest.raises(TrainingError, match="was ended, since its ranks on another node were; nothing of") as raised:
        launched(monkeypatch, tmp_path, endpoint="host:1", failed_elsewhere=True, nnodes=2)
    assert not isinstance(raised.value, StoppedError), "nobody asked for it"
    assert time.monotonic() - begun < 10


def rank_folder(folder: Path) -> Path:
    """Where torch keeps what local rank 1 wrote."""
    left = folder / "logs" / "49_abc" / "attempt_0" / "1"
    left.mkdir(parents=True)
    (left / "stderr.log").write_text("everything")
    return left


def failed(left: Path, exit_code: int) -> ChildFailedError:
    """As torch builds it, on node 1: global rank 3 is local rank 1."""
    failure = ProcessFailure(local_rank=1, pid=77, exitcode=exit_code, error_file=str(left / "error.json"))
    return ChildFailedError("osftx.worker", {3: failure})


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Traceback ...\n  File x\nFloatingPointError: the loss is nan\n", "FloatingPointError: the loss is nan"),
        (
            {"message": "ConfigurationError: 1 problem:\n  - model.path=x", "extraInfo": {"timestamp": "1"}},
            "ConfigurationError: 1 problem: - model.path=x",
        ),
        (
            {"message": "CudaError: an assert\nIt may be\nlate.\nUse a debugger.", "extraInfo": {"timestamp": "1"}},
            "CudaError: an assert It may be late.",
        ),
        (" \n", "no message was left"),
    ],
)
def test_a_failed_rank_is_named_with_its_cause_and_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, message: str | dict[str, Any], cause: str
) -> None:
    left = rank_folder(tmp_path)
    (left / "error.json").write_text(json.dumps({"message": message}))
    with pytest.raises(TrainingError) as raised:
        launched(monkeypatch, tmp_path, failed(left, 13))
    assert str(raised.value).splitlines() == [
        f"phase 'skills' failed on rank 3 (exit code 13): {cause}",
        f"  full log: {left / 'stderr.log'}",
    ]
    assert_restored()


def test_a_killed_rank_has_left_no_error_but_its_log_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as by the kernel, for want of memory."""
    left = rank_folder(tmp_path)
    with pytest.raises(TrainingError) as raised:
        launched(monkeypatch, tmp_path, failed(left, -9))
    assert str(raised.value).splitlines() == [
        "phase 'skills' failed on rank 3 (exit code -9): Signal 9 (SIGKILL) received by PID 77",
        f"  full log: {left / 'stderr.log'}",
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RendezvousConnectionError("nobody there"), ["host:1", "nobody there"]),
        (OSError(98, "Address already in use"), ["host:1", "Address already in use"]),
        (SignalException("stopped", signal.SIGTERM), ["was stopped by SIGTERM"]),
    ],
)
def test_other_failures_name_the_phase(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, words: list[str]
) -> None:
    with pytest.raises(TrainingError, match="phase 'skills'") as raised:
        launched(monkeypatch, tmp_path, error, endpoint="host:1", nnodes=2)
    assert all(word in str(raised.value) for word in words)
    assert_restored()


def test_a_stop_says_what_was_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a signal to this process, or to its ranks, which leave with a code of their own."""
    for error in (SignalException("stopped", signal.SIGUSR1), failed_with(os.EX_TEMPFAIL)):
        with pytest.raises(StoppedError, match=r"phase 'skills' was stopped by .*; nothing of it was saved"):
            launched(monkeypatch, tmp_path, error)
    for steps in (5, 40):
        save_folder(tmp_path / "unfinished", steps).mkdir(parents=True)
    resume = ResumeSpec(str(tmp_path / "unfinished"), str(tmp_path / "eigenvectors"), CheckpointingConfig())
    for error in (SignalException("stopped", signal.SIGUSR1), failed_with(os.EX_TEMPFAIL)):
        with pytest.raises(StoppedError, match=r"phase 'skills' was stopped by .*; saved after step 40"):
            launched(monkeypatch, tmp_path, error, resume)


def failed_with(exit_code: int) -> ChildFailedError:
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=exit_code, error_file="none")
    return ChildFailedError("worker", {0: failure})


def test_this_process_keeps_its_signals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torch's agent takes them over while the ranks run."""
    before = signal.getsignal(signal.SIGUSR1)
    launcher = Launcher()

    def start(*_: str) -> None:
        for number in launcher.config.signals_to_handle.split(","):
            signal.signal(getattr(signal, number), signal.SIG_IGN)

    monkeypatch.setattr(Launcher, "__call__", lambda self, config, _: setattr(self, "config", config) or start)
    monkeypatch.setattr(f"{__name__}.Launcher", lambda _: launcher)
    launched(monkeypatch, tmp_path)
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN


def test_on_one_node_nobody_is_sent_to_look_at_the_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as raised:
        launched(monkeypatch, tmp_path, RendezvousConnectionError("nobody there"), rdzv_endpoint="host:1")
    assert str(raised.value) == (
        "phase 'skills': the ranks could not meet on this machine (RendezvousConnectionError: nobody there)"
    )


def test_a_bug_is_not_dressed_up_and_still_leaves_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        launched(monkeypatch, tmp_path, ZeroDivisionError())
    assert_restored()
