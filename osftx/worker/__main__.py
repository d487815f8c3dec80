"""The entry of one rank: `torchrun --nproc_per_node=N -m osftx.worker PHASE.yaml` runs a phase on its own.

Exit codes: 0 done; 75 (EX_TEMPFAIL) stopped by SIGTERM or SIGUSR1 and saved; 74 (EX_IOERR) a disk cannot be written;
any other failed.
"""

import logging
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from torch.distributed.elastic.multiprocessing.errors import record

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import Accelerator
from osftx.utils.console import replace_what_cannot_be_shown
from osftx.utils.disk import refusal
from osftx.utils.processes import end_with_parent


def main() -> None:
    """Runs this rank. Ends the process with one of the codes above unless it fails in another way."""
    replace_what_cannot_be_shown()
    try:
        _run()
    except Exception as error:
        if refusal(error, "") is None:
            raise
        # The code tells it where the disk has no room for the message either.
        with suppress(OSError):
            traceback.print_exc()
        _leave(os.EX_IOERR)


@record
def _run() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: torchrun --nproc_per_node=N -m osftx.worker PHASE.yaml [PROCESS_ID_OF_THE_PARENT]")
    end_with_parent(int(sys.argv[2]) if len(sys.argv) == 3 else os.getppid())
    spec = PhaseSpec.load(Path(sys.argv[1]))
    if spec.distributed.accelerator is not Accelerator.auto:
        os.environ["DS_ACCELERATOR"] = spec.distributed.accelerator.value  # DeepSpeed reads it when it is imported
    from osftx.training.stop_signal import Stopped
    from osftx.worker.calibrate_phase import calibrate_phase
    from osftx.worker.generate_answers import generate_answers
    from osftx.worker.train_phase import train_phase

    run = train_phase
    if spec.calibration_steps is not None:
        run = calibrate_phase
    elif spec.generation is not None:
        run = generate_answers
    try:
        run(spec)
    except Stopped:
        _leave(os.EX_TEMPFAIL)
    except Exception as error:
        if (refused := refusal(error, spec.folder)) is None:
            raise
        raise OSError(refused) from error
    _leave(os.EX_OK)


def _leave(code: int) -> NoReturn:
    """End a rank whose work is on disk, without the interpreter's own ending.

    DeepSpeed keeps references to the process groups, so gloo's threads outlive `destroy_process_group`; one that frees
    a tensor while the interpreter ends aborts the process (SIGABRT, seen once in some thousand ranks).
    """
    with suppress(OSError):  # a full disk
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
