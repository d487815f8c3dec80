"""Reduces the output of libraries, so that the screen shows the run's own lines."""

import logging
import warnings

from transformers.utils import logging as transformers_logging


def quiet_libraries() -> None:
    """Turns off progress bars and messages below warnings of DeepSpeed and transformers."""
    # DeepSpeed still calls collectives by the names that torch is about to rename.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    transformers_logging.set_verbosity_warning()
    transformers_logging.disable_progress_bar()
