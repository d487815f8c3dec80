"""A rank, or any other process of a run, ends with the process that started it."""

import os
import subprocess
import sys
import time

import pytest

from osftx.utils.processes import end_with_parent

CHILD = """
import os, sys, time
from osftx.utils.processes import end_with_parent
end_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
time.sleep(60)
"""


def test_the_system_ends_a_rank_whose_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        rank = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while alive(rank) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(rank)


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_rank_whose_parent_has_ended_already_does_not_start() -> None:
    """The parent is named, since in a container it may well be process 1."""
    with pytest.raises(RuntimeError, match="has ended"):
        end_with_parent(os.getppid() + 1)
