"""Ranks forked from one process that has imported everything: most of a tiny phase's time is a fresh interpreter's.

The parts that start ranks as a user's run does (`osftx.launch`) are tested in test_cli, test_store, test_resume and
test_tiny_experiment; here only what the ranks do matters.
"""

import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import Accelerator, DistributedConfig
from osftx.launch.environment import environment


class RankServer:
    """The process to fork from. One phase at a time."""

    def __init__(self) -> None:
        with environment(DistributedConfig(accelerator=Accelerator.cpu), []):
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )

    def run(self, spec: PhaseSpec) -> None:
        """Run a phase that was saved. Raises RuntimeError with what a rank that failed has written."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{spec.folder}\n")
        self._process.stdin.flush()
        if (answer := self._process.stdout.readline().strip()) != "done":
            logs = sorted(Path(spec.folder).glob("rank_*.log"))
            raise RuntimeError(answer + "".join(f"\n{log.name}:\n{log.read_text()[-2000:]}" for log in logs))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def serve() -> None:
    """Read the folders of phases from stdin, run each, answer `done` or what failed on stdout."""
    import osftx.worker.train_phase  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    for line in sys.stdin:
        spec = PhaseSpec.load(Path(line.strip()) / "phase.yaml")
        ranks = _start(spec)
        failed = []
        while ranks:
            process, status = os.wait()
            rank = ranks.pop(process)
            if status != 0:
                failed.append(f"rank {rank}: exit code {os.waitstatus_to_exitcode(status)}")
                for other in ranks:  # they wait for it
                    os.kill(other, 9)
        answers.write(("; ".join(failed) or "done") + "\n")
        answers.flush()


def _start(spec: PhaseSpec) -> dict[int, int]:
    """The rank of each process."""
    world_size = spec.distributed.nproc_per_node
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = {}
    for rank in range(world_size):
        process = os.fork()
        if process == 0:
            _be_rank(spec, rank, world_size, port)
        ranks[process] = rank
    return ranks


def _be_rank(spec: PhaseSpec, rank: int, world_size: int, port: int) -> None:
    code = 1
    try:
        log = os.open(Path(spec.folder) / f"rank_{rank}.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        from osftx.worker.train_phase import train_phase

        train_phase(spec)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
