"""How the nodes of a run meet, over real connections, and on which machines a phase is launched."""

import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import SECRET, of_rank, other, small_phase, two_nodes

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, TrainingError
from osftx.launch import cluster as cluster_module
from osftx.launch import follower as follower_module
from osftx.launch.cluster import Cluster
from osftx.launch.leader import join
from osftx.launch.secret import VARIABLE

SETTINGS = {"training": {"seed": 1, "learning_rate": 1e-5}, "distributed": {"node_rank": 0}}


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, SECRET.decode())


@pytest.fixture
def group() -> DistributedConfig:
    return two_nodes()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Of the first node."""
    cluster = Cluster()
    yield cluster
    cluster.end(1)


def other_node(settings: DistributedConfig, compared: Any) -> Callable[[], object]:
    """What another node does from its start to its end."""
    return lambda: Cluster().meet(settings, compared)


def told(error: Exception) -> str:
    return " ".join(str(error).split())


def test_a_node_whose_rank_has_no_place_is_refused_and_the_run_with_it(
    group: DistributedConfig, cluster: Cluster
) -> None:
    with other(other_node(of_rank(group, 2), SETTINGS)) as refused:
        with pytest.raises(ConfigurationError) as raised:
            cluster.meet(group, SETTINGS)
        assert "distributed.node_rank=2: with distributed.nnodes=2 it must be 1 to 1" in told(raised.value)
    assert isinstance(refused[0], ConfigurationError)
    assert str(refused[0]) == str(raised.value)


def test_a_node_with_another_command_is_refused_and_each_side_shows_its_own_values(
    group: DistributedConfig, cluster: Cluster
) -> None:
    changed = {"training": {"seed": 2, "learning_rate": 1e-5}, "model": {"path": "elsewhere"}}
    with other(other_node(of_rank(group, 1), changed)) as refused:
        with pytest.raises(ConfigurationError) as raised:
            cluster.meet(group, SETTINGS)
        assert "in model.path (here not set), training.seed (here 1); give the same command" in told(raised.value)
    assert isinstance(refused[0], ConfigurationError)
    assert "in model.path (here elsewhere), training.seed (here 2); give the same command" in told(refused[0])


def test_a_rank_that_was_given_twice_is_refused(group: DistributedConfig, cluster: Cluster) -> None:
    group.nnodes = 3
    with other(other_node(of_rank(group, 1), {})), other(other_node(of_rank(group, 1), {})) as second:
        with pytest.raises(ConfigurationError, match=r"node_rank=1: given to two nodes, .* give each its own"):
            cluster.meet(group, {})
        cluster.end(2, "one rank twice")
    assert len(second) == 1


def test_a_node_that_comes_to_a_run_that_has_begun_is_refused_and_the_run_goes_on(
    group: DistributedConfig, cluster: Cluster
) -> None:
    with other(other_node(of_rank(group, 1), {})) as first:
        cluster.meet(group, {})
        with pytest.raises(ConfigurationError, match="node_rank=1: the run has begun, with all of its 2 nodes"):
            join(of_rank(group, 1), {}, SECRET)
        cluster.end(0)
    assert first == [(0, "")]


def test_a_node_that_does_not_come_is_waited_for_so_long(group: DistributedConfig, cluster: Cluster) -> None:
    group.join_timeout_s = 1
    with pytest.raises(TrainingError, match=r"of 2 nodes these did not come .*join_timeout_s=1: 1\. Were they started"):
        cluster.meet(group, {})


def test_a_first_node_that_is_not_there_is_waited_for_so_long(group: DistributedConfig, cluster: Cluster) -> None:
    with pytest.raises(TrainingError, match=r"node 1: the first node was not found .*Connection refused\)\. Was it"):
        cluster.meet(of_rank(group, 1, join_timeout_s=1), {})


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("192.0.2.1:29500", "192.0.2.1 is not this machine, but its distributed.node_rank is 0; name the first node"),
        ("no.such.host.invalid:29500", "no.such.host.invalid is no known host"),
    ],
)
def test_an_endpoint_that_is_not_here_is_refused(
    group: DistributedConfig, cluster: Cluster, endpoint: str, says: str
) -> None:
    group.rdzv_endpoint, group.join_timeout_s = endpoint, 1
    with pytest.raises(ConfigurationError) as raised:
        cluster.meet(group, {})
    assert says in told(raised.value)


def test_a_port_in_use_is_refused(group: DistributedConfig, cluster: Cluster) -> None:
    port = int(group.rdzv_endpoint.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ConfigurationError, match="the port is in use on"):
        cluster.meet(group, {})


def test_a_sweep_keeps_its_nodes(group: DistributedConfig, cluster: Cluster) -> None:
    with other(other_node(of_rank(group, 1), {})):
        cluster.meet(group, {})
        with pytest.raises(ConfigurationError, match="nnodes=4: the sweep began with 2"):
            cluster.meet(of_rank(group, 0, nnodes=4), {})
        cluster.end(0)


def test_a_run_on_this_machine_alone_meets_nobody(cluster: Cluster) -> None:
    assert cluster.meet(DistributedConfig(nnodes=1), {}) is None
    cluster.end(0)


class Recorded:
    """Takes the place of `run_ranks` and of the followers: keeps what was launched and where its ranks meet."""

    def __init__(self) -> None:
        self.launched: list[tuple[str, ...]] = []

    def run_ranks(self, spec: PhaseSpec, devices: list[str], *meeting: Any) -> None:
        self.launched.append((spec.name, *meeting[:1]))


def test_a_phase_is_launched_on_this_machine_and_on_all_nodes_once_they_have_met(
    group: DistributedConfig, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Recorded(), Recorded()
    monkeypatch.setattr(cluster_module, "run_ranks", here.run_ranks)
    monkeypatch.setattr(follower_module, "run_ranks", there.run_ranks)
    spec = small_phase(tmp_path)
    cluster.launch(spec)
    assert (here.launched, there.launched) == ([("skills",)], [])
    with other(other_node(of_rank(group, 1), SETTINGS)) as ended:
        assert cluster.meet(group, SETTINGS | {"distributed": {"node_rank": 1}}) is None
        assert cluster.meet(group, {}) is None  # the next job of a sweep
        cluster.launch(spec)
        cluster.end(2, "that is wrong")
    assert ended == [(2, "that is wrong")]
    assert len(here.launched) == 2
    assert here.launched[1:] == there.launched
    cluster.launch(spec)
    assert here.launched[2:] == [("skills",)], "the others are gone"


def test_a_copy_for_the_process_of_a_job_is_that_machine_alone(group: DistributedConfig, cluster: Cluster) -> None:
    with other(other_node(of_rank(group, 1), {})):
        cluster.meet(group, {})
        copy = pickle.loads(pickle.dumps(cluster))
        copy.end(1, "a job has ended")
        with pytest.raises(ConfigurationError, match="the sweep began with 2"):
            cluster.meet(of_rank(group, 0, nnodes=1), {})
        cluster.end(0)
