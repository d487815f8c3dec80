"""The entry of one rank: `torchrun --nproc_per_node=N -m osftx.worker PHASE.yaml` runs a phase on its own."""

import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from osftx.config import Accelerator
from osftx.phase import PhaseSpec


@record
def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: torchrun --nproc_per_node=N -m osftx.worker PHASE.yaml")
    spec = PhaseSpec.load(Path(sys.argv[1]))
    if spec.distributed.accelerator is not Accelerator.auto:
        os.environ["DS_ACCELERATOR"] = spec.distributed.accelerator.value  # DeepSpeed reads it when it is imported
    from osftx.train_phase import train_phase

    train_phase(spec)


if __name__ == "__main__":
    main()
