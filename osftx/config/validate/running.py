"""Rules for where a run runs and what it leaves: ranks, nodes, saves, the store."""

from collections.abc import Iterator

from omegaconf import MISSING

from osftx.config.schema import CheckpointingConfig, DistributedConfig, ExperimentConfig
from osftx.config.validate.ranges import above, at_least, out_of_range
from osftx.utils.files import of_no_user

CHECKPOINTING_RANGES = {
    "every_minutes": above(0),
    "every_steps": at_least(1),
    "keep": at_least(1),
    "grace_s": at_least(1),
}
DISTRIBUTED_RANGES = {
    "nproc_per_node": at_least(1),
    "nnodes": at_least(1),
    "rdzv_id": at_least(0),
    "join_timeout_s": at_least(1),
    "omp_num_threads": at_least(1),
    "timeout_s": at_least(1),
}
HIGHEST_PORT = 65535


def _checkpointing(config: ExperimentConfig) -> Iterator[str]:
    yield from out_of_range("checkpointing", config.checkpointing, CHECKPOINTING_RANGES, CheckpointingConfig())


def _store(config: ExperimentConfig) -> Iterator[str]:
    if config.reuse and not config.store_dir.strip():
        yield "store_dir=: names no folder; give one, or set reuse=false"


def _folders(config: ExperimentConfig) -> Iterator[str]:
    named = {
        "output_dir": config.output_dir,
        "store_dir": config.store_dir,
        "data.processing_dir": config.data.processing_dir,
        "distributed.secret_file": config.distributed.secret_file,
        "evaluation.lm_eval.include_path": config.evaluation.lm_eval.include_path,
    }
    for key, path in named.items():
        if path is not None and (problem := of_no_user(path)) is not None:
            yield f"{key}={path}: {problem}"


def _distributed(config: ExperimentConfig) -> Iterator[str]:
    distributed = config.distributed
    nodes = distributed.nnodes
    yield from out_of_range("distributed", distributed, DISTRIBUTED_RANGES, DistributedConfig())
    if not 0 <= distributed.node_rank < max(nodes, 1):
        yield (
            f"distributed.node_rank={distributed.node_rank}: must be 0 to {max(nodes, 1) - 1} "
            f"(distributed.nnodes={nodes}); give each node its own"
        )
    if nodes > 1 and config.plan.calibrate:
        yield (
            f"plan.calibrate=true: times the ranks of one node alone, and distributed.nnodes={nodes}; leave it out, or "
            "time one node with distributed.nnodes=1 dry_run=true and no launcher around"
        )


def _rendezvous(config: ExperimentConfig) -> Iterator[str]:
    endpoint, nodes = config.distributed.rdzv_endpoint, config.distributed.nnodes
    path = f"distributed.rdzv_endpoint={endpoint or MISSING}"
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > HIGHEST_PORT:
        yield (
            f"{path}: must be HOST:PORT with a port of 0 to {HIGHEST_PORT}; "
            "set distributed.rdzv_endpoint=FIRST_NODE:29500 (127.0.0.1:29500 on one machine)"
        )
    elif int(port) == 0 and nodes > 1:
        yield f"{path}: port 0 is a free one, which other nodes cannot know; name one, as {host}:29500"


RULES = (_checkpointing, _store, _folders, _distributed, _rendezvous)
