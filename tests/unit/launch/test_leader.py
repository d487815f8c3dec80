"""What the first node and its followers say to each other, over real connections; functions stand in for ranks."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import SECRET, of_rank, other, small_phase, two_nodes

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, StoppedError, TrainingError
from osftx.launch import follower as following
from osftx.launch import handshake, leader
from osftx.launch.connection import EndedError, Line
from osftx.launch.follower import LOST, follow
from osftx.launch.leader import Nodes, join


@pytest.fixture
def group() -> DistributedConfig:
    return two_nodes()


@pytest.fixture
def nodes(group: DistributedConfig) -> Iterator[Nodes]:
    """The first node, to which another one may come."""
    nodes = Nodes(group, {}, SECRET)
    yield nodes
    nodes.end(1)


def another(group: DistributedConfig) -> Callable[[], object]:
    """What the second node does from its start to its end."""
    second = of_rank(group, 1)
    return lambda: follow(second, join(second, {}, SECRET), trusts_code=False)


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
        line = join(of_rank(group, 1), {}, SECRET)
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
        line = join(of_rank(group, 1), {}, SECRET)
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


STRANGE = (
    b"GET / HTTP/1.1\r\n\r\n",
    json.dumps({"kind": "hello", "node": 1, "host": "mine", "settings": {}}).encode() + b"\n",
    b"[1]\n",
    b"x" * 10_000,
    b"\xff\n",
    b"",
)


def test_whoever_does_not_prove_to_be_a_node_is_hung_up_on_and_the_run_goes_on(
    group: DistributedConfig, nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the nodes have met and afterwards."""
    host, port = group.rdzv_endpoint.split(":")

    def strangers() -> None:
        for words in STRANGE:
            with socket.create_connection((host, int(port))) as stranger:
                stranger.settimeout(5)
                with suppress(OSError):  # it was hung up on before everything was read
                    stranger.sendall(words)
                    stranger.shutdown(socket.SHUT_WR)
                    while stranger.recv(4096):
                        pass
        with pytest.raises(ConfigurationError, match="the first node has another secret than node 1"):
            join(of_rank(group, 1), {}, b"a secret of somebody else")

    strangers()
    with other(another(group)) as ended:
        nodes.gather()
        strangers()
        assert list(nodes._nodes) == [1]
        nodes.end(0)
    assert ended == [(0, "")]
    assert capsys.readouterr().out.count("without the secret of this run was turned away") == 1


def test_strangers_that_say_nothing_do_not_keep_a_node_out(
    group: DistributedConfig, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "WITHIN_S", 0.5)
    host, port = group.rdzv_endpoint.split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(leader.STRANGERS)]
    with other(another(group)):
        nodes.gather()
        nodes.end(0)
    for stranger in silent:
        stranger.close()


def test_neither_the_secret_nor_a_setting_is_sent(group: DistributedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Overheard(socket.socket):
        def sendall(self, content: bytes, *flags: int) -> None:  # type: ignore[override]
            sent.append(bytes(content))
            super().sendall(content, *flags)

    monkeypatch.setattr(socket, "socket", Overheard)
    settings = {"training.seed": "42", "token": "hf_private"}
    nodes = Nodes(group, settings, SECRET)
    with other(lambda: join(of_rank(group, 1), settings, SECRET)):
        nodes.gather()
        nodes.end(0)
    everything = b"".join(sent)
    assert b"training.seed" in everything
    assert SECRET not in everything
    assert b"hf_private" not in everything


def test_a_node_keeps_its_own_trust_in_the_code_of_a_model(
    group: DistributedConfig, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(following, "run_ranks", lambda spec, *_: ran.append(spec.name))
    spec = small_phase(tmp_path)
    spec.model.trust_remote_code = True
    spec.save()
    with other(another(group)):
        nodes.gather()
        with pytest.raises(TrainingError, match="trust_remote_code=true, and this node was started without it"):
            nodes.together(Path(spec.folder) / "phase.yaml", lambda *_: None)
        nodes.end(1)
    assert ran == []


def test_the_first_node_of_a_run_on_one_machine_listens_on_loopback(nodes: Nodes) -> None:
    assert nodes._listener.getsockname()[0] == "127.0.0.1"


def test_a_first_node_that_knows_itself_by_ipv6_is_found_by_ipv4(
    group: DistributedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "_resolved", lambda *_: (socket.AF_INET6, "::"))
    group.rdzv_endpoint = group.rdzv_endpoint.replace("127.0.0.1", "0.0.0.0")  # this machine, by no loopback address
    nodes = Nodes(group, {}, SECRET)
    with other(lambda: join(of_rank(group, 1), {}, SECRET)) as found:
        nodes.gather()
        nodes.end(0)
    assert isinstance(found[0], Line)


def test_the_end_of_the_first_node_is_noticed(group: DistributedConfig, nodes: Nodes) -> None:
    with other(another(group)) as ended:
        nodes.gather()
        for node in nodes._nodes.values():
            node.line.close()
    assert ended == [LOST]
