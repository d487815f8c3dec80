"""The environment variables of a rank, which must be set before its interpreter starts."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1

from osftx.config.meeting import only_here
from osftx.config.schema import Accelerator, DistributedConfig
from osftx.launch.secret import VARIABLE

PASSED_ON = (SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1)
"""Signals that end the ranks together with this process. Slurm's `--signal` and Kubernetes announce the end of a job
with them."""
SIGNALS_TO_HANDLE = ",".join(number.name for number in PASSED_ON)
"""The signals of `PASSED_ON`, in the format of torch's agent."""


@contextmanager
def environment(group: DistributedConfig, devices: list[str]) -> Iterator[None]:
    """Sets the environment variables of ranks on these GPUs in this process, and restores them afterwards.

    The nodes' secret is taken out meanwhile: the ranks do not need it.
    """
    secret = os.environ.pop(VARIABLE, None)
    try:
        with set_for_now(_wanted(group, devices)):
            yield
    finally:
        if secret is not None:
            os.environ[VARIABLE] = secret


@contextmanager
def set_for_now(wanted: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables of this process, and restores them afterwards."""
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _wanted(group: DistributedConfig, devices: list[str]) -> dict[str, str]:
    wanted = {
        "OMP_NUM_THREADS": str(group.omp_num_threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHELASTIC_SIGNALS_TO_HANDLE": SIGNALS_TO_HANDLE,  # earlier versions of torch read them here
    }
    if group.nnodes == 1 or only_here(group.rdzv_endpoint):
        # Otherwise gloo listens at the address of the host's name, if that is known at all, and NCCL on any interface.
        loopback = _loopback()
        wanted |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": f"={loopback}"}  # =: this name exactly
    if devices:
        wanted["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if group.accelerator is not Accelerator.auto:
        wanted["DS_ACCELERATOR"] = group.accelerator.value
    if group.accelerator is not Accelerator.cpu:
        # This halves the host memory that glibc keeps after the model is read. If the CPU trains as well, returning
        # every activation to the system makes a step a third slower.
        wanted["MALLOC_MMAP_THRESHOLD_"] = "65536"
    return wanted


def _loopback() -> str:
    """Returns the name of this machine's loopback interface."""
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "lo")
