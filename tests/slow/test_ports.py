"""A run on one machine listens nowhere but on the loopback interface, and leaves nothing of its meeting behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from listening import addresses_while_it_runs, beyond_loopback

SHORT = (
    "+experiment=tiny_two_phase",
    "~phases.skills",
    "osft.save_bases=false",
    "phases.knowledge.num_epochs=1",
    "training.warmup_steps=0",
)
NO_HOST = "gone.example.invalid"

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the sockets are read from /proc")


def start(folder: Path, *overrides: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
    """A run with a temporary folder of its own, where the agent and the ranks put what they meet through."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    settings = (*SHORT, *overrides, f"output_dir={folder / 'run'}", f"store_dir={folder / 'store'}")
    return subprocess.Popen(
        [*before, sys.executable, "-m", "osftx", *settings],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")} | environment,
        stdout=(folder / "output").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
    )


def assert_done(process: subprocess.Popen[str], folder: Path) -> None:
    assert process.wait(timeout=240) == 0, (folder / "output").read_text()
    assert list((folder / "tmp").glob("osftx-ranks-*")) == []


def test_a_run_on_one_machine_listens_on_loopback_alone_and_two_at_once_do_not_meet(tmp_path: Path) -> None:
    """Calibration, training and evaluation, whatever interface the user's environment names."""
    first, second = tmp_path / "first", tmp_path / "second"
    runs = [
        start(first, "plan.calibrate=true", GLOO_SOCKET_IFNAME="eth0", NCCL_SOCKET_IFNAME="eth0"),
        start(second),
    ]
    seen = addresses_while_it_runs(runs[0])
    for run, folder in zip(runs, (first, second), strict=True):
        assert_done(run, folder)
    assert "tcp 127.0.0.1" in seen, "gloo's own, so that the ranks were looked at"
    assert beyond_loopback(seen) == set()
    weights = [folder / "run/phases/01_knowledge/checkpoint/model.safetensors" for folder in (first, second)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_two_nodes_on_one_machine_listen_on_loopback_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    both = ("distributed.nnodes=2", "distributed.nproc_per_node=1", f"distributed.rdzv_endpoint={endpoint}")
    own = {"HOME": str(tmp_path)}
    nodes = [start(tmp_path, *both, **own), start(tmp_path, *both, "distributed.node_rank=1", **own)]
    seen = addresses_while_it_runs(nodes[0])
    for node in nodes:
        assert_done(node, tmp_path)
    assert "tcp 127.0.0.1" in seen
    assert beyond_loopback(seen) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a process a host name of its own")
def test_one_machine_needs_no_host_name(tmp_path: Path) -> None:
    named = ("unshare", "--uts", "sh", "-c", f'hostname {NO_HOST}; exec "$@"', "sh")
    assert_done(start(tmp_path, "~evaluation", before=named), tmp_path)
