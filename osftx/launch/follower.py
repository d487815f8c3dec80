"""A node other than the first one, which runs its ranks of each phase that the first node asks for."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, ExitCode, StoppedError, TrainingError
from osftx.launch.connection import EndedError, Line, Message
from osftx.launch.gpus import check_devices, exclusive_devices
from osftx.launch.launcher import run_ranks
from osftx.launch.leader import beside, digest

SEEN_WITHIN_S = 30.0
"""Seconds within which a network file system must show one node what another has written."""
POLL_S = 0.5


class Ended(NamedTuple):
    """The way in which the first node ended, which the other nodes repeat."""

    code: int
    message: str
    """Reason why the code is not 0."""


LOST = Ended(ExitCode.training_failed, "the first node has ended, or cannot be reached any more; see its output")


def follow(distributed: DistributedConfig, first: Line, trusts_code: bool) -> Ended:
    """Serves the first node over its connection until that node has ended, and returns how it ended.

    `trusts_code` is this node's own `model.trust_remote_code`. The first node cannot turn it on.
    """
    print(f"node {distributed.node_rank} of {distributed.nnodes}: follows {distributed.rdzv_endpoint}", flush=True)
    try:
        while (message := first.receive())["kind"] != "end":
            if message["kind"] == "phase":
                first.send("outcome", **_serve(distributed, first, message, trusts_code))
    except EndedError:
        return LOST
    return Ended(message["code"], message["message"])


def _serve(distributed: DistributedConfig, first: Line, phase: Message, trusts_code: bool) -> dict[str, Any]:
    """Runs this node's ranks of one phase; returns the content of the outcome message."""
    try:
        spec = _seen(Path(phase["file"]), phase["digest"])
        if spec.model.trust_remote_code and not trusts_code:
            raise TrainingError(
                f"phase {spec.name!r} asks for model.trust_remote_code=true, and this node was started without it; "
                "give it there, if the code is to be trusted"
            )
        spec.distributed = replace(spec.distributed, node_rank=distributed.node_rank)  # each node has its own rank
        check_devices(spec.distributed, spec.training.use_liger)
        print(f"phase {spec.name}", flush=True)
        with exclusive_devices(spec.distributed, f"phase {spec.name!r}") as devices:
            first.send("ready")
            order = first.receive()
            if order["kind"] == "go":  # otherwise another node has failed
                meeting = beside(distributed.rdzv_endpoint, order["port"])
                run_ranks(spec, devices, meeting, lambda: first.waiting)
    except (TrainingError, ConfigurationError, OSError) as error:  # OSError: this node cannot write to a folder
        return {"error": str(error), "stopped": isinstance(error, StoppedError)}
    return {"error": None, "stopped": False}


def _seen(file: Path, content: str) -> PhaseSpec:
    """Returns the phase that the first node has written, once this node sees it and all files that it names.

    `content` is the digest of the file. Raises TrainingError after SEEN_WITHIN_S seconds.
    """
    deadline = time.monotonic() + SEEN_WITHIN_S
    while True:
        missing: Sequence[Path] = [file]
        if file.is_file() and digest(file) == content:
            spec = PhaseSpec.load(file)
            missing = [path for path in _read_by(spec) if not path.exists()]
            if not missing:
                return spec
        if time.monotonic() > deadline:
            raise TrainingError(
                f"{missing[0]} is not here as the first node has it; output_dir, store_dir and the model must be in "
                "folders that all nodes share, under the same paths"
            )
        time.sleep(POLL_S)


def _read_by(spec: PhaseSpec) -> Iterator[Path]:
    """Yields the files and folders that must exist before the phase starts."""
    yield Path(spec.model.path)
    yield Path(spec.data)
    yield from map(Path, spec.evaluation_sets.values())
    if spec.resume is not None:
        yield Path(spec.resume.folder)
