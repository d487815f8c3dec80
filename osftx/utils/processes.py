"""A process that ends with the one that started it. Imports nothing heavy, so that it holds from the first moment."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Linux's prctl."""


def end_with_parent(parent: int) -> None:
    """A parent that is killed cannot stop its children, which would keep GPUs that others take to be free.

    The system sends them SIGTERM then, so that ranks save before they leave. Raises RuntimeError if it has ended.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise RuntimeError("the process that started this one has ended")
