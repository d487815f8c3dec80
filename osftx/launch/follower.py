"""Where the nodes of a run meet, and what those do that are not the first: start the ranks that it asks for."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError, StoppedError, TrainingError
from osftx.launch.connection import EndedError, Line, Message
from osftx.launch.launcher import check_devices, exclusive_devices, run_ranks
from osftx.launch.leader import Nodes, beside, digest, join

SEEN_WITHIN_S = 30.0
"""Seconds until a network file system shows one node what another has written."""
POLL_S = 0.5
WITHOUT_A_WORD = (1, "the first node has ended, or cannot be reached any more; see its output")

Ended = tuple[int, str]
"""Exit code, and why it is not 0."""


def meet(distributed: DistributedConfig, settings: Any) -> Ended | None:
    """Bring the nodes together, if there are several and they have not met. None on the first one, which goes on; the
    others have served it to its end when this returns.

    `settings` are the composed ones, which must be the same on all nodes but for `distributed.node_rank`. Raises
    ConfigurationError when they are not, or the endpoint is wrong; TrainingError when a node does not come in time.
    """
    if Nodes.current is not None:
        if distributed.nnodes != Nodes.current.count:
            raise ConfigurationError(
                [f"distributed.nnodes={distributed.nnodes}: the sweep began with {Nodes.current.count}; leave it"]
            )
        return None
    if distributed.nnodes == 1:
        return None
    compared = dict(_flat(settings))
    if distributed.node_rank > 0:
        return _follow(distributed, join(distributed, compared))
    Nodes.gather(distributed, compared)
    return None


def _follow(distributed: DistributedConfig, first: Line) -> Ended:
    print(f"node {distributed.node_rank} of {distributed.nnodes}: follows {distributed.rdzv_endpoint}", flush=True)
    try:
        while (message := first.receive())["kind"] != "end":
            if message["kind"] == "phase":
                first.send("outcome", **_serve(distributed, first, message))
    except EndedError:
        return WITHOUT_A_WORD
    return message["code"], message["message"]


def _serve(distributed: DistributedConfig, first: Line, phase: Message) -> dict[str, Any]:
    """Run this node's ranks of one phase; what comes of them."""
    try:
        spec = _seen(Path(phase["file"]), phase["digest"])
        spec.distributed = replace(spec.distributed, node_rank=distributed.node_rank)  # a job of a sweep has its own
        check_devices(spec.distributed, spec.training.use_liger)
        print(f"phase {spec.name}", flush=True)
        with exclusive_devices(spec.distributed, f"phase {spec.name!r}") as devices:
            first.send("ready")
            order = first.receive()
            if order["kind"] == "go":  # otherwise another node has failed
                meeting = beside(distributed.rdzv_endpoint, order["port"])
                run_ranks(spec, devices, meeting, lambda: first.waiting)
    except (TrainingError, ConfigurationError, OSError) as error:  # a folder that this node must not write
        return {"error": str(error), "stopped": isinstance(error, StoppedError)}
    return {"error": None, "stopped": False}


def _seen(file: Path, content: str) -> PhaseSpec:
    """The phase that the first node has written, when this one sees it and all that it names.

    Raises TrainingError after SEEN_WITHIN_S.
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
    """What must be there before the phase starts."""
    yield Path(spec.model.path)
    yield Path(spec.data)
    yield from map(Path, spec.evaluation_sets.values())
    if spec.resume is not None:
        yield Path(spec.resume.folder)


def _flat(settings: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, str(settings)
