"""Several nodes of a run in one process: the others are threads."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import DistributedConfig, ModelConfig, OsftConfig, TrainingConfig

SECRET = b"known to these nodes alone"


def two_nodes() -> DistributedConfig:
    """The settings of two nodes that meet at a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return DistributedConfig(nnodes=2, nproc_per_node=1, rdzv_endpoint=f"127.0.0.1:{port}", join_timeout_s=5)


def of_rank(group: DistributedConfig, rank: int, **changes: Any) -> DistributedConfig:
    """The settings of the node with this rank."""
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


def small_phase(folder: Path) -> PhaseSpec:
    """A phase that was saved, and whose files are there."""
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
