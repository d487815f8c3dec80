"""The GPUs of this machine that the ranks use: checks that there are enough, and claims them while the ranks run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from osftx.config.schema import Accelerator, DistributedConfig
from osftx.errors import ConfigurationError, TrainingError
from osftx.launch.devices import claimed, lock_folder
from osftx.launch.outer_launcher import outer_launcher


def check_devices(distributed: DistributedConfig, use_liger: bool) -> None:
    """Raises ConfigurationError if this machine does not have the GPUs that the settings ask for. Imports torch."""
    import torch

    gpus = torch.cuda.device_count()
    asked, wanted = distributed.accelerator, distributed.nproc_per_node
    outer = outer_launcher(os.environ)
    beside = outer.local_size if outer is not None and outer.a_rank_each else None
    # If CUDA_VISIBLE_DEVICES lists one GPU, the launcher may have given each process a different one.
    seen_by_all = gpus > 1 or "CUDA_VISIBLE_DEVICES" not in os.environ
    problems = []
    if asked is Accelerator.cuda and gpus == 0:
        problems.append("distributed.accelerator=cuda: this machine has no GPU that torch can use; try distributed=cpu")
    if asked is not Accelerator.cpu and 0 < gpus < wanted:
        problems.append(
            f"distributed.nproc_per_node={wanted}: this machine has {gpus} GPUs; set distributed.nproc_per_node={gpus}"
        )
    if outer is not None and asked is not Accelerator.cpu and beside and 0 < gpus < beside and seen_by_all:
        problems.append(
            f"{outer.launcher} has started {beside} processes on this machine, one for each rank, and they see {gpus} "
            f"GPUs; start {gpus} on each machine"
        )
    if asked is Accelerator.auto and gpus == 0 and use_liger:
        problems.append(
            "training.use_liger=true: Liger's kernels need a GPU and there is none; set training.use_liger=false"
        )
    if problems:
        raise ConfigurationError(problems)


@contextmanager
def exclusive_devices(group: DistributedConfig, user: str) -> Iterator[list[str]]:
    """Holds one GPU for each of this machine's ranks and yields their names; waits until enough are free.

    Yields an empty list if the ranks need no GPU of their own: on CPU, or with shared devices. `user` says in messages
    who wants the GPUs. Raises TrainingError if the lock files cannot be written.
    """
    outer = outer_launcher(os.environ)
    own = outer.local_rank if outer is not None and outer.a_rank_each else None
    names = []
    if group.accelerator is not Accelerator.cpu and (group.exclusive_devices or own is not None):
        names = _visible_gpus()
    if names and own is not None:
        # Another GPU is not taken even if it is free: two runs whose processes each hold some GPUs would wait for ever.
        names = [names[own % len(names)]]
    with ExitStack() as claim:
        held = names[:1]
        if names and group.exclusive_devices:
            folder = lock_folder()
            try:
                held = claim.enter_context(claimed(names, group.nproc_per_node, folder))
            except OSError as error:
                raise TrainingError(
                    f"{user}: no GPU could be claimed, since {folder} cannot be written "
                    f"({error.strerror}); mend it, or set distributed.exclusive_devices=false"
                ) from error
        yield held


def _visible_gpus() -> list[str]:
    """Returns the names that CUDA_VISIBLE_DEVICES uses for the GPUs that this process sees, in torch's order.

    Numbers would not identify a GPU: they start at 0 in each container or job of a cluster, whichever GPUs it was
    given.
    """
    import torch

    count = torch.cuda.device_count()
    listed = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if listed[0].startswith("MIG-"):  # the properties of a MIG device do not include its name
        return listed[:count]
    return [f"GPU-{torch.cuda.get_device_properties(place).uuid}" for place in range(count)]
