"""Several nodes, and launchers around osftx, on real ranks: what they come to, bit for bit, and how they end.

Two agents on this machine are two nodes: they know of each other by the endpoint alone.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

from osftx.launch.secret import VARIABLE

SHORT = (
    "+experiment=tiny_two_phase",
    "~evaluation",
    "~phases.skills",
    "osft.save_bases=false",
    "phases.knowledge.num_epochs=5",
    "checkpointing.every_steps=2",
)
MODULE = ("-m", "osftx")
SWEEP = "hydra.mode=MULTIRUN"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *MODULE)
ENDS_WITHIN_S = 60


class Runs:
    """Runs of one short phase, each with a folder and a store of its own; what is left of them ends with the tests."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, name: str, *overrides: str, launcher: tuple[str, ...] = MODULE) -> subprocess.Popen[str]:
        folder = "hydra.sweep.dir" if SWEEP in overrides else "output_dir"
        own = (f"{folder}={self.folder / name}", f"store_dir={self.folder / name}_store")
        process = subprocess.Popen(
            [sys.executable, *launcher, *SHORT, *own, *overrides],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", VARIABLE: "known to these nodes alone"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def nodes(self, name: str, *overrides: str, second: tuple[str, ...] = ()) -> list[subprocess.Popen[str]]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        both = ("distributed.nnodes=2", "distributed.nproc_per_node=1", "distributed.join_timeout_s=60", *overrides)
        settings = (*both, f"distributed.rdzv_endpoint={endpoint}")
        return [
            self.start(name, *settings),
            self.start(name, *settings, "distributed.node_rank=1", *second),
        ]

    def weights(self, name: str) -> bytes:
        return (self.folder / name / "phases" / "01_knowledge" / "checkpoint" / "model.safetensors").read_bytes()

    def wait_for_a_save(self, name: str) -> None:
        deadline = time.monotonic() + 120
        while not list((self.folder / f"{name}_store").glob("unfinished/*/step_????????")):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def ended(process: subprocess.Popen[str], within_s: float = 180) -> tuple[int, str]:
    output, _ = process.communicate(timeout=within_s)
    return process.returncode, output


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    runs = Runs(tmp_path_factory.mktemp("nodes"))
    code, output = ended(runs.start("plain"))
    assert code == 0, output
    yield runs
    for process in runs.processes:
        process.kill()


def test_torchrun_around_osftx_gives_the_same_weights(runs: Runs) -> None:
    code, output = ended(runs.start("torchrun", launcher=TORCHRUN))
    assert code == 0, output
    assert output.count("Phase 1 of 1") == 1
    assert runs.weights("torchrun") == runs.weights("plain")


def test_a_killed_node_ends_the_other_one_and_the_same_commands_go_on_to_the_same_weights(runs: Runs) -> None:
    first, second = runs.nodes("nodes")
    runs.wait_for_a_save("nodes")
    second.kill()
    code, output = ended(first, ENDS_WITHIN_S)
    assert code == 1, output
    assert "osftx: node 1 (" in output
    assert "has ended, or cannot be reached any more; see its output" in output
    assert "give the same command again to go on from there" in output
    assert not (runs.folder / "nodes" / "results.json").exists()

    again = runs.nodes("nodes")
    for code, output in map(ended, again):
        assert code == 0, output
    # The save held the loss of the first steps: it did not begin again.
    logged = (runs.folder / "nodes" / "phases" / "01_knowledge" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == list(range(1, 16))
    assert runs.weights("nodes") == runs.weights("plain")

    reused = runs.nodes("nodes")
    for code, output in map(ended, reused):
        assert code == 0, output
    (phase,) = json.loads((runs.folder / "nodes" / "results.json").read_text())["phases"]
    assert phase["reused"]


def test_nodes_with_different_commands_end_with_2_and_leave_nothing(runs: Runs) -> None:
    for code, output in map(ended, runs.nodes("different", second=("training.seed=7",))):
        assert code == 2, output
        assert "distributed.node_rank=1: its command differs from the first node's in " in output
        assert "training.seed (here " in output
    assert not (runs.folder / "different").exists()


def test_the_nodes_of_a_sweep_meet_once_and_leave_with_its_exit_code(runs: Runs) -> None:
    swept = (SWEEP, "phases.knowledge.num_epochs=1", "phases.knowledge.max_seq_len=32,5,33")
    first, second = [ended(node, within_s=360) for node in runs.nodes("sweep", *swept)]
    assert (first[0], second[0]) == (2, 2), first[1] + second[1]
    assert "2 phases trained, 0 reused, 1 of 3 jobs failed" in first[1]
    told = [line for line in second[1].splitlines() if line.startswith(("node", "phase", "osftx"))]
    assert told[0].startswith("node 1 of 2: follows 127.0.0.1:")
    assert told[1:] == ["phase knowledge", "phase knowledge", "osftx: see the output of the first node"]
