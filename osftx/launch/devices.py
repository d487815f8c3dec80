"""Claim GPUs of this machine while ranks run, so that runs at the same time do not share one by accident.

    <temp>/osftx-<user id>/devices/<device>.lock   held by the run that uses the device
                                   turn-*.lock     held by the run that is next to get devices
                                   gate.lock       held for the instant in which devices are taken

The locks are advisory, of this user on this machine, and the system lets go of them when their owner ends, however it
ends. Devices are names here: who counts them imports torch, this module does not.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

POLL_S = 0.5
"""Seconds between two looks at devices that are not free."""
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
NVIDIA_SMI_S = 10.0
MIB = 2**20


def lock_folder() -> Path:
    """Where all runs of this user on this machine (with one TMPDIR) look for locks."""
    return Path(tempfile.gettempdir()) / f"osftx-{os.getuid()}" / "devices"


@contextmanager
def claimed(devices: Sequence[str], wanted: int, folder: Path) -> Iterator[list[str]]:
    """Hold `wanted` of the `devices`, the first free ones in their order; waits, and says so, until there are enough.

    All or nothing: nobody holds devices while waiting for others, so two runs cannot block each other. Among runs that
    see the same devices one at a time is next, so one that wants many is not starved by many that want one.
    Raises ValueError when more are wanted than there are, OSError when `folder` cannot be written.
    """
    if not 1 <= wanted <= len(devices):
        raise ValueError(f"{wanted} of {len(devices)} devices are wanted")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = f"waiting for {wanted} free of {len(devices)} GPUs: other runs hold them (distributed.exclusive_devices)"
    with ExitStack() as claim:
        with ExitStack() as waiting:
            turn = FileLock(folder / f"turn-{sha256(repr(sorted(devices)).encode()).hexdigest()[:16]}.lock")
            try:
                waiting.enter_context(turn.acquire(timeout=0))
                said = False
            except Timeout:
                print(told, flush=True)
                waiting.enter_context(turn.acquire())
                said = True
            held = _take(devices, wanted, folder, claim)
            if not (held or said):
                print(told, flush=True)
            while not held:
                time.sleep(POLL_S)
                held = _take(devices, wanted, folder, claim)
        yield held


def _take(devices: Sequence[str], wanted: int, folder: Path, claim: ExitStack) -> list[str]:
    """Take `wanted` free devices for as long as `claim` is open, or none of them."""
    held: list[str] = []
    # Two that take at once could each get a part and both give up.
    with FileLock(folder / "gate.lock"), ExitStack() as taken:
        for device in devices:
            if len(held) == wanted:
                break
            lock = FileLock(folder / (re.sub(r"[^\w.-]", "_", device) + ".lock"))
            try:
                taken.enter_context(lock.acquire(timeout=0))
            except Timeout:
                continue
            held.append(device)
        if len(held) < wanted:
            return []
        claim.enter_context(taken.pop_all())
    return held


def smallest_memory() -> int | None:
    """Bytes of the smallest GPU that this process may use; None where there is none, or the driver cannot tell.

    `CUDA_VISIBLE_DEVICES` chooses, by numbers (the driver's, which are CUDA's unless GPUs differ) or names. The driver
    does not tell the memory of parts of a GPU (MIG).
    """
    try:
        told = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    gpus = [words for line in told.splitlines() if len(words := line.split(", ")) == 3]  # not notes of the driver
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else [word.strip() for word in visible.split(",")]
    sizes = [
        size
        for number, name, size in gpus
        if wanted is None or any(word == number or (word and name.startswith(word)) for word in wanted)
    ]
    return min((int(size) * MIB for size in sizes if size.isdigit()), default=None)
