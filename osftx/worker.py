"""The entry of one rank: `torchrun --nproc_per_node=N -m osftx.worker PHASE.yaml` runs a phase on its own."""

import ctypes
import os
import sys
from pathlib import Path
from signal import SIGKILL

from torch.distributed.elastic.multiprocessing.errors import record

from osftx.config import Accelerator
from osftx.phase import PhaseSpec

PR_SET_PDEATHSIG = 1
"""Of Linux' prctl(2): the signal that a process gets when its parent ends."""


@record
def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: torchrun --nproc_per_node=N -m osftx.worker PHASE.yaml")
    _end_with_parent()
    spec = PhaseSpec.load(Path(sys.argv[1]))
    if spec.distributed.accelerator is not Accelerator.auto:
        os.environ["DS_ACCELERATOR"] = spec.distributed.accelerator.value  # DeepSpeed reads it when it is imported
    from osftx.train_phase import train_phase

    train_phase(spec)


def _end_with_parent() -> None:
    """A rank whose launcher was killed would keep a GPU that other runs take to be free."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)


if __name__ == "__main__":
    main()
