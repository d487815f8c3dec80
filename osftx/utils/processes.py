"""Ties the life of a process to that of its parent. Imports nothing heavy, so that it takes effect immediately."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl that sets the signal sent when the parent ends."""


def end_with_parent(parent: int) -> None:
    """Has the system send this process SIGTERM when the process `parent` ends, so that ranks save before they exit.

    A parent that is killed cannot stop its children, which would keep GPUs that other runs take to be free. Works on
    Linux only. Raises RuntimeError if the parent has already ended.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise RuntimeError("the process that started this one has ended")
