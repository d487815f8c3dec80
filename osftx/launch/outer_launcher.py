"""Detection of an outer launcher (torchrun, srun, mpirun, deepspeed, ...) that started osftx once per rank or node.

osftx treats each of these processes as a node. The node has one rank if the launcher has started several processes on a
machine or counts them locally; otherwise it has all ranks of the machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from osftx.config.meeting import only_here
from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError


@dataclass(frozen=True)
class Outer:
    """The place of this process among the processes of the launcher."""

    launcher: str
    rank: int
    size: int
    """Number of processes on all machines."""
    local_rank: int
    local_size: int | None
    """Number of processes on this machine; None if the launcher does not say."""
    a_rank_each: bool
    """Whether each process is one rank; otherwise there is one process per machine, which starts all its ranks."""
    endpoint: str | None
    """HOST:PORT where the processes can meet; None if the launcher does not say."""


@dataclass(frozen=True)
class _Names:
    """Names of the environment variables of one launcher."""

    launcher: str
    rank: str
    size: str
    local_rank: str
    local_size: tuple[str, ...]
    starts_ranks: bool = False
    """Whether a process that is alone on its machine is the only rank there."""


LAUNCHERS = (
    _Names(
        "torchrun (RANK, WORLD_SIZE)",  # also deepspeed and PyTorchJob; the latter counts Pods and nothing locally
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"),
        starts_ranks=True,
    ),
    _Names(
        "mpirun",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        ("OMPI_COMM_WORLD_LOCAL_SIZE",),
    ),
    _Names("mpirun (PMI)", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", ("MPI_LOCALNRANKS",)),
    # SLURM_NTASKS is not used: a batch script has it too, and there only the script itself runs.
    _Names("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ("SLURM_STEP_TASKS_PER_NODE",)),
)
"""Known launchers in order of precedence; torchrun itself may be started by srun, for example."""
COUNTED = ("nproc_per_node", "nnodes", "node_rank")
"""Keys of `distributed` that the launcher decides."""


def outer_launcher(environment: Mapping[str, str]) -> Outer | None:
    """Returns the place in the launcher that started this process as one of several; None if there is no such launcher.

    Raises ConfigurationError if a variable is not a number.
    """
    for names in LAUNCHERS:
        if names.rank not in environment or names.size not in environment:
            continue
        rank, size = _number(environment, names.rank), _number(environment, names.size)
        counts_locally = names.local_rank in environment
        # `srun --mpi=pmi2` sets PMI_RANK and PMI_SIZE alone; Slurm's own names say more.
        if size == 1 or not (counts_locally or names.starts_ranks):
            continue
        known = next((environment[name] for name in names.local_size if name in environment), None)
        local_size = (
            int(known.partition("(")[0]) if known and known.partition("(")[0].isdigit() else None
        )  # Slurm writes 8(x2)
        return Outer(
            launcher=names.launcher,
            rank=rank,
            size=size,
            local_rank=_number(environment, names.local_rank) if counts_locally else 0,
            local_size=local_size,
            a_rank_each=counts_locally and (names.starts_ranks or local_size != 1),
            endpoint=_endpoint(environment),
        )
    return None


def without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without the launcher's variables, for a process that is not part of its group."""
    told = {"MASTER_ADDR", "MASTER_PORT"}
    for names in LAUNCHERS:
        told |= {names.rank, names.size, names.local_rank, *names.local_size}
    return {name: value for name, value in environment.items() if name not in told}


def placed(distributed: DistributedConfig, outer: Outer | None, overrides: Sequence[str]) -> DistributedConfig:
    """Returns the settings with this process's place in the launcher.

    `overrides` are the words of the command line. Raises ConfigurationError if they contradict the launcher.
    """
    if outer is None:
        return distributed
    explicit = dict(word.lstrip("+").split("=", 1) for word in overrides if "=" in word)
    endpoint = distributed.rdzv_endpoint
    if outer.endpoint is not None and "distributed.rdzv_endpoint" not in explicit:
        endpoint = outer.endpoint
    problems = _conflicts(outer, explicit)
    if outer.local_size and outer.size > outer.local_size and only_here(endpoint):
        problems.append(
            f"distributed.rdzv_endpoint={endpoint}: {outer.launcher} has started processes on several machines, and "
            "this is another place on each; name the first machine, as FIRST_NODE:29500"
        )
    if problems:
        raise ConfigurationError(problems)
    return replace(
        distributed,
        nproc_per_node=1 if outer.a_rank_each else distributed.nproc_per_node,
        nnodes=outer.size,
        node_rank=outer.rank,
        rdzv_endpoint=endpoint,
    )


def _conflicts(outer: Outer, explicit: Mapping[str, str]) -> list[str]:
    """Returns a problem for each setting of the command line that contradicts the launcher."""
    found = {"nnodes": outer.size, "node_rank": outer.rank}
    if outer.a_rank_each:
        machines = outer.size // outer.local_size if outer.local_size else None
        local = {"nproc_per_node": outer.local_size, "nnodes": machines}
        found = {key: value for key, value in local.items() if value is not None}
        found["node_rank"] = outer.rank // outer.local_size if outer.local_size else outer.rank
    return [
        f"distributed.{key}={explicit[f'distributed.{key}']}: {outer.launcher} has started {outer.size} processes, "
        f"for which it is {found[key]}; leave it out"
        for key in COUNTED
        if key in found and f"distributed.{key}" in explicit and explicit[f"distributed.{key}"] != str(found[key])
    ]


def _endpoint(environment: Mapping[str, str]) -> str | None:
    """Returns the endpoint at the port after the launcher's own, because the launcher may be using its own itself."""
    host, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT", "")
    return f"{host}:{int(port) + 1}" if host and port.isdigit() else None


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not text.isdigit():
        raise ConfigurationError(
            [f"{name}={text}: must be a number of 0 or more; unset it, or start osftx by a launcher"]
        )
    return int(text)
