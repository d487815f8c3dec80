"""What the first node and its followers say to each other, over real connections; functions stand in for ranks."""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import of_rank, other, small_phase, two_nodes

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, StoppedError, TrainingError
from osftx.launch import follower as following
from osftx.launch import leader
from osftx.launch.connection import EndedError, Line
from osftx.launch.follower import LOST, follow
from osftx.launch.leader import Nodes, join


@pytest.fixture
def group() -> DistributedConfig:
    return two_nodes()


@pytest.fixture
def nodes(group: DistributedConfig) -> Iterator[Nodes]:
    """The first node, to which another one may come."""
    nodes = Nodes(group, {})
    yield nodes
    nodes.end(1)


def another(group: DistributedConfig) -> Callable[[], object]:
    """What the second node does from its start to its end."""
    second = of_rank(group, 1)
    return lambda: follow(second, join(second, {}))


def told(error: Exception) -> str:
    return " ".join(str(error).split())


def test_the_other_nodes_run_each_phase_and_leave_with_the_first(
    group: DistributedConfig, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[DistributedConfig, str]] = []
    monkeypatch.setattr(following, "run_ranks", lambda spec, _, at, __: ran.append((spec.distributed, at)))
    spec, own = small_phase(tmp_path), []
    there = replace(spec.distributed, node_rank=1)  # as the phase has it, whatever the command of the node says
    with other(another(group)) as ended:
        nodes.gather()
        for _ in range(2):
            nodes.together(Path(spec.folder) / "phase.yaml", lambda at, _: own.append((there, at)))
        nodes.end(2, "that is wrong")
    assert ended == [(2, "that is wrong")]
    assert ran == own


def test_the_first_node_tells_what_the_others_ranks_died_of(
    group: DistributedConfig, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    file = Path(small_phase(tmp_path).folder) / "phase.yaml"
    monkeypatch.setattr(following, "run_ranks", fail)
    with other(another(group)):
        nodes.gather()
        with pytest.raises(TrainingError, match=r"node 1 \(.*\): rank 1 failed\s+node 0: rank 0 lost it"):
            nodes.together(file, own(TrainingError("rank 0 lost it")))
        with pytest.raises(StoppedError, match=r"^here, too$"):
            nodes.together(file, own(StoppedError("here, too")))
        # A signal to one of them, whose ranks did not wait to save: the ranks of the others lost theirs.
        with pytest.raises(StoppedError, match=r"node 1 \(.*\): stopped\s+node 0: rank 0 lost it"):
            nodes.together(file, own(TrainingError("rank 0 lost it")))
        with pytest.raises(StoppedError, match=r"node 1 \(.*\): rank 1 lost it\s+node 0: stopped"):
            nodes.together(file, own(StoppedError("stopped")))
        for problem in ("no GPU", "no such rights"):
            with pytest.raises(TrainingError, match=problem):
                nodes.together(file, lambda *_: None)
        nodes.end(0)


def test_a_node_that_is_gone_ends_the_phase(group: DistributedConfig, nodes: Nodes, tmp_path: Path) -> None:
    file = Path(small_phase(tmp_path).folder) / "phase.yaml"

    def dies() -> None:
        line = join(of_rank(group, 1), {})
        line.receive()
        line.send("ready")
        line.receive()
        line.close()

    with other(dies):
        nodes.gather()
        with pytest.raises(StoppedError, match=r"node 1 \(.*\) has ended, or cannot be reached"):
            nodes.together(file, wait_for_failure)
        with pytest.raises(StoppedError, match="has ended"):  # so no other phase can run
            nodes.together(file, wait_for_failure)


def test_a_node_that_does_not_end_its_ranks_is_given_up(group: DistributedConfig, nodes: Nodes, tmp_path: Path) -> None:
    file = Path(small_phase(tmp_path).folder) / "phase.yaml"

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
        nodes.gather()
        with pytest.raises(StoppedError, match=r"cannot be reached any more; see its output\s+node 0: rank 0 failed"):
            nodes.together(file, fails, within_s=0.2)


def wait_for_failure(_: str, failed_elsewhere: Callable[[], bool]) -> None:
    while not failed_elsewhere():
        pass


def test_a_folder_that_is_not_shared_is_told_before_any_rank_starts(
    group: DistributedConfig, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SEEN_WITHIN_S", 0.0)
    spec = small_phase(tmp_path)
    (tmp_path / "samples").rmdir()
    started: list[str] = []
    with other(another(group)):
        nodes.gather()
        with pytest.raises(TrainingError) as raised:
            nodes.together(Path(spec.folder) / "phase.yaml", lambda at, _: started.append(at))
        nodes.end(1)
    assert f"{tmp_path / 'samples'} is not here as the first node has it; output_dir" in told(raised.value)
    assert started == []


def test_a_phase_of_an_earlier_run_is_not_taken_for_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SEEN_WITHIN_S", 0.0)
    file = Path(small_phase(tmp_path).folder) / "phase.yaml"
    assert following._seen(file, leader.digest(file)).name == "skills"
    with pytest.raises(TrainingError, match=r"phase.yaml is not here as the first node has it"):
        following._seen(file, "another")


def test_whoever_is_no_node_is_hung_up_on(group: DistributedConfig, nodes: Nodes) -> None:
    with other(another(group)):
        nodes.gather()
        host, port = group.rdzv_endpoint.split(":")
        for words in (b"GET / HTTP/1.1\r\n\r\n", json.dumps({"kind": "hello"}).encode() + b"\n", b"[1]\n"):
            with socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(words)
                stranger.settimeout(5)
                assert stranger.recv(1) == b""
        nodes.end(0)


def test_a_first_node_that_knows_itself_by_ipv6_is_found_by_ipv4(
    group: DistributedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "_resolved", lambda *_: (socket.AF_INET6, "::"))
    nodes = Nodes(group, {})
    with other(lambda: join(of_rank(group, 1), {})) as found:
        nodes.gather()
        nodes.end(0)
    assert isinstance(found[0], Line)


def test_the_end_of_the_first_node_is_noticed(group: DistributedConfig, nodes: Nodes) -> None:
    with other(another(group)) as ended:
        nodes.gather()
        for node in nodes._nodes.values():
            node.line.close()
    assert ended == [LOST]
