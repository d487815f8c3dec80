"""What launchers around osftx say of its processes, by the variables that each of them sets."""

import pytest

from osftx.config.schema import DistributedConfig
from osftx.errors import ConfigurationError
from osftx.launch.outer_launcher import outer_launcher, placed, without_launcher

MASTER = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
TORCHRUN = MASTER | {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
DEEPSPEED = MASTER | {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_SIZE": "4"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
PMI = {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}
PYTORCH_JOB = MASTER | {"RANK": "1", "WORLD_SIZE": "2"}
SRUN_BY_PMI = SRUN | {"PMI_RANK": "5", "PMI_SIZE": "8"}
SRUN_A_NODE = {
    "SLURM_PROCID": "1",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
}


def place(environment: dict[str, str], *overrides: str) -> DistributedConfig:
    given = DistributedConfig(nproc_per_node=4, rdzv_endpoint="given:1")
    return placed(given, outer_launcher(environment), overrides)


@pytest.mark.parametrize("environment", [TORCHRUN, DEEPSPEED, OPEN_MPI, PMI, SRUN, SRUN_BY_PMI, SRUN | TORCHRUN])
def test_a_process_a_rank_is_a_node_of_one_rank(environment: dict[str, str]) -> None:
    group = place(environment)
    assert (group.nnodes, group.node_rank, group.nproc_per_node) == (8, 5, 1)
    outer = outer_launcher(environment)
    assert outer is not None
    assert (outer.a_rank_each, outer.local_rank, outer.local_size) == (True, 1, 4)


@pytest.mark.parametrize("environment", [PYTORCH_JOB, SRUN_A_NODE])
def test_a_process_a_machine_starts_the_ranks_of_the_machine(environment: dict[str, str]) -> None:
    group = place(environment)
    assert (group.nnodes, group.node_rank, group.nproc_per_node) == (2, 1, 4)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"},  # of a batch script
    ],
)
def test_a_process_that_is_alone_is_as_it_was_configured(environment: dict[str, str]) -> None:
    assert outer_launcher(environment) is None
    assert place(environment) == DistributedConfig(nproc_per_node=4, rdzv_endpoint="given:1")


def test_the_nodes_meet_at_the_port_after_the_launchers_own_unless_one_is_given() -> None:
    assert place(TORCHRUN).rdzv_endpoint == "node0:29501"
    assert place(SRUN).rdzv_endpoint == "given:1"
    given = place(TORCHRUN, "distributed.rdzv_endpoint=given:1")
    assert given.rdzv_endpoint == "given:1"


@pytest.mark.parametrize(
    ("environment", "overrides", "says"),
    [
        (TORCHRUN, ["distributed.nproc_per_node=8"], ["nproc_per_node=8: torchrun", "8 processes", "it is 4"]),
        (TORCHRUN, ["distributed.nnodes=3"], ["nnodes=3", "it is 2"]),
        (SRUN, ["distributed.node_rank=0"], ["node_rank=0: srun", "it is 1"]),
        (PYTORCH_JOB, ["distributed.nnodes=3", "distributed.node_rank=0"], ["2 problems", "it is 2", "it is 1"]),
        (TORCHRUN | {"RANK": "first"}, [], ["RANK=first: must be a number"]),
    ],
)
def test_what_the_command_line_says_otherwise_is_refused_with_both_numbers(
    environment: dict[str, str], overrides: list[str], says: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        place(environment, *overrides)
    assert all(word in str(raised.value) for word in says), raised.value


def test_an_endpoint_that_is_another_place_on_each_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"rdzv_endpoint=127.0.0.1:29500: srun has .*name the first machine"):
        placed(DistributedConfig(), outer_launcher(SRUN), [])
    on_one = SRUN | {"SLURM_STEP_TASKS_PER_NODE": "8"}
    assert placed(DistributedConfig(), outer_launcher(on_one), []).nnodes == 8


def test_a_process_of_its_own_sees_no_launcher() -> None:
    everything = {"PATH": "/bin"} | TORCHRUN | DEEPSPEED | OPEN_MPI | PMI | SRUN
    assert without_launcher(everything) == {"PATH": "/bin"}


def test_what_the_command_line_says_alike_is_taken() -> None:
    same = ["distributed.nproc_per_node=4", "distributed.nnodes=2", "distributed.node_rank=1", "training.seed=1"]
    assert place(TORCHRUN, *same) == place(TORCHRUN)
