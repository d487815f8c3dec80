"""Claims on GPUs of this machine while ranks run, so that concurrent runs do not share one by accident.

    <temp>/osftx-<user id>/devices/<device>.lock   held by the run that uses the device
                                   turn-*.lock     held by the run that is next in the queue
                                   gate.lock       held for the moment in which devices are taken

The locks are advisory and apply to this user on this machine. The operating system releases them when their owner ends,
for whatever reason. Devices are plain names here, so this module does not import torch; `gpus` finds them.
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
"""Seconds between two attempts to take devices."""
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
NVIDIA_SMI_S = 10.0
MIB = 2**20


def lock_folder() -> Path:
    """Returns the folder in which all runs of this user on this machine (with the same TMPDIR) keep their locks."""
    return Path(tempfile.gettempdir()) / f"osftx-{os.getuid()}" / "devices"


@contextmanager
def claimed(devices: Sequence[str], wanted: int, folder: Path) -> Iterator[list[str]]:
    """Holds `wanted` of the `devices`, the first free ones in their order, and yields them.

    Waits until enough are free, and prints that it waits. It takes all or none: no run holds devices while it waits for
    more, so two runs cannot block each other. Runs that see the same devices queue up, so that runs that want one
    device do not starve a run that wants many.

    Raises ValueError if more devices are wanted than there are, OSError if `folder` cannot be written.
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
    """Takes `wanted` free devices until `claim` is closed, or none if too few are free; returns what it took."""
    held: list[str] = []
    # Two runs that take devices at the same time could each get a part and both give up.
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
    """Returns the memory in bytes of the smallest GPU that this process may use.

    Returns None if there is no GPU or the driver does not report the memory, as for MIG devices. `CUDA_VISIBLE_DEVICES`
    selects GPUs by name or by the driver's number, which equals CUDA's number unless the GPUs are of different types.
    """
    try:
        told = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    gpus = [
        words for line in told.splitlines() if len(words := line.split(", ")) == 3
    ]  # other lines are notes of the driver
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = None if visible is None else [word.strip() for word in visible.split(",")]
    sizes = [
        size
        for number, name, size in gpus
        if wanted is None or any(word == number or (word and name.startswith(word)) for word in wanted)
    ]
    return min((int(size) * MIB for size in sizes if size.isdigit()), default=None)
