"""How nodes find each other and what they say, over real connections; ranks are stood in for by functions."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import DistributedConfig, ModelConfig, OsftConfig, TrainingConfig
from osftx.errors import ConfigurationError, StoppedError, TrainingError
from osftx.launch import follower as following
from osftx.launch import leader as nodes
from osftx.launch.connection import EndedError, Line
from osftx.launch.follower import meet
from osftx.launch.leader import Nodes, join

SETTINGS = {"training": {"seed": 1, "learning_rate": 1e-5}, "distributed": {"node_rank": 0}}


@pytest.fixture
def group() -> Iterator[DistributedConfig]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield DistributedConfig(nnodes=2, nproc_per_node=1, rdzv_endpoint=f"127.0.0.1:{port}", join_timeout_s=5)
    if Nodes.current is not None:
        Nodes.current.end(1)


def of_rank(group: DistributedConfig, rank: int, **changes: Any) -> DistributedConfig:
    return DistributedConfig(**vars(group) | {"node_rank": rank} | changes)


@contextmanager
def other(work: Callable[[], object]) -> Iterator[list[object]]:
    """Another node, in a thread: what it returned, or raised, is there afterwards."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    yield outcome
    thread.join(10)
    assert not thread.is_alive()


def phase(folder: Path) -> PhaseSpec:
    for name in ("base", "samples"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    spec = PhaseSpec(
        index=0,
        name="skills",
        method="sft",
        unfreeze_rank_ratio=None,
        model=ModelConfig(path=str(folder / "base")),
        training=TrainingConfig(use_liger=False),
        osft=OsftConfig(),
        distributed=DistributedConfig(nproc_per_node=1),
        data=str(folder / "samples"),
        folder=str(folder / "phase"),
        evaluation_max_tokens=64,
    )
    spec.save()
    return spec


def told(error: Exception) -> str:
    return " ".join(str(error).split())


def test_the_other_nodes_run_each_phase_and_leave_with_the_first(
    group: DistributedConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[DistributedConfig, str]] = []
    monkeypatch.setattr(following, "run_ranks", lambda spec, _, at, __: ran.append((spec.distributed, at)))
    spec, own = phase(tmp_path), []
    there = replace(spec.distributed, node_rank=1)  # as the phase has it, whatever the command of the node says
    with other(lambda: meet(of_rank(group, 1), SETTINGS)) as ended:
        assert meet(group, SETTINGS | {"distributed": {"node_rank": 1}}) is None
        assert meet(group, {}) is None  # the next job of a sweep
        assert Nodes.current is not None
        for _ in range(2):
            Nodes.current.together(Path(spec.folder) / "phase.yaml", lambda at, _: own.append((there, at)))
        Nodes.current.end(2, "that is wrong")
    assert ended == [(2, "that is wrong")]
    assert ran == own
    assert Nodes.current is None


def test_the_first_node_tells_what_the_others_ranks_died_of(
    group: DistributedConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [
        TrainingError("rank 1 failed"),
        StoppedError("stopped, saved"),
        StoppedError("stopped"),
        TrainingError("rank 1 lost it"),
        ConfigurationError(["no GPU"]),
        PermissionError("no such rights"),
    ]

    def fail(*_: object) -> None:
        raise failures.pop(0)

    def own(error: Exception) -> Callable[[str, Callable[[], bool]], None]:
        def run(*_: object) -> None:
            raise error

        return run

    file = Path(phase(tmp_path).folder) / "phase.yaml"
    monkeypatch.setattr(following, "run_ranks", fail)
    with other(lambda: meet(of_rank(group, 1), SETTINGS)):
        meet(group, SETTINGS)
        assert Nodes.current is not None
        with pytest.raises(TrainingError, match=r"node 1 \(.*\): rank 1 failed\s+node 0: rank 0 lost it"):
            Nodes.current.together(file, own(TrainingError("rank 0 lost it")))
        with pytest.raises(StoppedError, match=r"^here, too$"):
            Nodes.current.together(file, own(StoppedError("here, too")))
        # A signal to one of them, whose ranks did not wait to save: the ranks of the others lost theirs.
        with pytest.raises(StoppedError, match=r"node 1 \(.*\): stopped\s+node 0: rank 0 lost it"):
            Nodes.current.together(file, own(TrainingError("rank 0 lost it")))
        with pytest.raises(StoppedError, match=r"node 1 \(.*\): rank 1 lost it\s+node 0: stopped"):
            Nodes.current.together(file, own(StoppedError("stopped")))
        for problem in ("no GPU", "no such rights"):
            with pytest.raises(TrainingError, match=problem):
                Nodes.current.together(file, lambda *_: None)
        Nodes.current.end(0)


def test_a_node_that_is_gone_ends_the_phase(group: DistributedConfig, tmp_path: Path) -> None:
    file = Path(phase(tmp_path).folder) / "phase.yaml"

    def dies() -> None:
        line = join(of_rank(group, 1), {})
        line.receive()
        line.send("ready")
        line.receive()
        line.close()

    with other(dies):
        Nodes.gather(group, {})
        assert Nodes.current is not None
        with pytest.raises(StoppedError, match=r"node 1 \(.*\) has ended, or cannot be reached"):
            Nodes.current.together(file, wait_for_failure)
        with pytest.raises(StoppedError, match="has ended"):  # so no other phase can run
            Nodes.current.together(file, wait_for_failure)


def test_a_node_that_does_not_end_its_ranks_is_given_up(group: DistributedConfig, tmp_path: Path) -> None:
    file = Path(phase(tmp_path).folder) / "phase.yaml"

    def hangs() -> None:
        line = join(of_rank(group, 1), {})
        line.receive()
        line.send("ready")
        for _ in ("go", "off"):
            line.receive()
        with pytest.raises(EndedError):
            line.receive()

    def fails(*_: object) -> None:
        raise TrainingError("rank 0 failed")

    with other(hangs):
        Nodes.gather(group, {})
        assert Nodes.current is not None
        with pytest.raises(StoppedError, match=r"cannot be reached any more; see its output\s+node 0: rank 0 failed"):
            Nodes.current.together(file, fails, within_s=0.2)


def wait_for_failure(_: str, failed_elsewhere: Callable[[], bool]) -> None:
    while not failed_elsewhere():
        pass


def test_a_folder_that_is_not_shared_is_told_before_any_rank_starts(
    group: DistributedConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SEEN_WITHIN_S", 0.0)
    spec = phase(tmp_path)
    (tmp_path / "samples").rmdir()
    started: list[str] = []
    with other(lambda: meet(of_rank(group, 1), SETTINGS)):
        meet(group, SETTINGS)
        assert Nodes.current is not None
        with pytest.raises(TrainingError) as raised:
            Nodes.current.together(Path(spec.folder) / "phase.yaml", lambda at, _: started.append(at))
        Nodes.current.end(1)
    assert f"{tmp_path / 'samples'} is not here as the first node has it; output_dir" in told(raised.value)
    assert started == []


def test_a_phase_of_an_earlier_run_is_not_taken_for_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SEEN_WITHIN_S", 0.0)
    file = Path(phase(tmp_path).folder) / "phase.yaml"
    assert following._seen(file, nodes.digest(file)).name == "skills"
    with pytest.raises(TrainingError, match=r"phase.yaml is not here as the first node has it"):
        following._seen(file, "another")


@pytest.mark.parametrize(
    ("rank", "settings", "says"),
    [
        (2, SETTINGS, "distributed.node_rank=2: with distributed.nnodes=2 it must be 1 to 1"),
        (
            1,
            {"training": {"seed": 2, "learning_rate": 1e-5}},
            "training.seed=2 instead of 1; give the same command on all nodes",
        ),
    ],
)
def test_a_node_with_another_command_is_refused_and_the_run_with_it(
    group: DistributedConfig, rank: int, settings: dict[str, Any], says: str
) -> None:
    with other(lambda: meet(of_rank(group, rank), settings)) as refused:
        with pytest.raises(ConfigurationError) as raised:
            meet(group, SETTINGS)
        assert says in told(raised.value)
    assert isinstance(refused[0], ConfigurationError)
    assert str(refused[0]) == str(raised.value)


def test_a_rank_that_was_given_twice_is_refused(group: DistributedConfig) -> None:
    group.nnodes = 3
    with other(lambda: meet(of_rank(group, 1), {})), other(lambda: meet(of_rank(group, 1), {})) as second:
        with pytest.raises(ConfigurationError, match=r"node_rank=1: given to two nodes, .* give each its own"):
            meet(group, {})
        assert Nodes.current is not None
        Nodes.current.end(2, "one rank twice")
    assert len(second) == 1


def test_a_node_that_comes_to_a_run_that_has_begun_is_refused_and_the_run_goes_on(group: DistributedConfig) -> None:
    with other(lambda: meet(of_rank(group, 1), {})) as first:
        meet(group, {})
        with pytest.raises(ConfigurationError, match="node_rank=1: the run has begun, with all of its 2 nodes"):
            join(of_rank(group, 1), {})
        assert Nodes.current is not None
        Nodes.current.end(0)
    assert first == [(0, "")]


def test_a_node_that_does_not_come_is_waited_for_so_long(group: DistributedConfig) -> None:
    group.join_timeout_s = 1
    with pytest.raises(TrainingError, match=r"of 2 nodes these did not come .*join_timeout_s=1: 1\. Were they started"):
        meet(group, {})


def test_a_first_node_that_is_not_there_is_waited_for_so_long(group: DistributedConfig) -> None:
    with pytest.raises(TrainingError, match=r"node 1: the first node was not found .*Connection refused\)\. Was it"):
        meet(of_rank(group, 1, join_timeout_s=1), {})


def test_whoever_is_no_node_is_hung_up_on(group: DistributedConfig) -> None:
    with other(lambda: meet(of_rank(group, 1), {})):
        Nodes.gather(group, {})
        host, port = group.rdzv_endpoint.split(":")
        for words in (b"GET / HTTP/1.1\r\n\r\n", json.dumps({"kind": "hello"}).encode() + b"\n", b"[1]\n"):
            with socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(words)
                stranger.settimeout(5)
                assert stranger.recv(1) == b""
        assert Nodes.current is not None
        Nodes.current.end(0)


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("192.0.2.1:29500", "192.0.2.1 is not this machine, but its distributed.node_rank is 0; name the first node"),
        ("no.such.host.invalid:29500", "no.such.host.invalid is no known host"),
    ],
)
def test_an_endpoint_that_is_not_here_is_refused(group: DistributedConfig, endpoint: str, says: str) -> None:
    group.rdzv_endpoint, group.join_timeout_s = endpoint, 1
    with pytest.raises(ConfigurationError) as raised:
        meet(group, {})
    assert says in told(raised.value)


def test_a_first_node_that_knows_itself_by_ipv6_is_found_by_ipv4(
    group: DistributedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_resolved", lambda *_: (socket.AF_INET6, "::"))
    with other(lambda: join(of_rank(group, 1), {})) as found:
        Nodes.gather(group, {})
        assert Nodes.current is not None
        Nodes.current.end(0)
    assert isinstance(found[0], Line)


def test_a_port_in_use_is_refused(group: DistributedConfig) -> None:
    port = int(group.rdzv_endpoint.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ConfigurationError, match="the port is in use on"):
        meet(group, {})


def test_a_sweep_keeps_its_nodes(group: DistributedConfig) -> None:
    with other(lambda: meet(of_rank(group, 1), {})):
        meet(group, {})
        with pytest.raises(ConfigurationError, match="nnodes=4: the sweep began with 2"):
            meet(of_rank(group, 0, nnodes=4), {})
        assert Nodes.current is not None
        Nodes.current.end(0)


def test_the_end_of_the_first_node_is_noticed(group: DistributedConfig) -> None:
    with other(lambda: meet(of_rank(group, 1), {})) as ended:
        meet(group, {})
        assert Nodes.current is not None
        for node in Nodes.current._nodes.values():
            node.line.close()
    assert ended == [following.WITHOUT_A_WORD]


def test_messages_wait_and_an_end_stays_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = Line(socket.create_connection(server.getsockname()))
        there = Line(server.accept()[0])
    here.send("a", number=1)
    assert there.receive(5) == {"kind": "a", "number": 1}
    with pytest.raises(TimeoutError):
        there.receive(0.01)
    here.close()
    for _ in range(2):
        with pytest.raises(EndedError):
            there.receive(5)
    there.send("into the void")
    assert there.ended
