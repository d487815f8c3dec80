"""Refusals of a disk (full, quota, read-only, no rights), in whatever error a library wraps them."""

import errno
import os
import re
from collections.abc import Iterator, Mapping

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
IN_TEXT = re.compile(r"\(os error (\d+)\)|\[errno (\d+)\]", re.IGNORECASE)
"""How safetensors and Arrow write the system's error number into their own error."""
CUT = re.compile(r"unexpected pos|PytorchStreamWriter failed")
"""torch's words for a file that could not be written whole; it does not say why."""


def refusal(error: BaseException, folder: object) -> str | None:
    """Returns the path, the disk's refusal and the remedy, in one sentence; None if `error` is something else.

    `folder` is named where the error does not know the file.
    """
    for one in sorted(_causes(error), key=lambda one: not isinstance(one, OSError)):  # an OSError may know the file
        number = _number(one)
        if number in FULL + CLOSED:
            path = one.filename if isinstance(one, OSError) and one.filename is not None else folder
            return f"{path}: {os.strerror(number)}; {_remedy(number)}"
    return None


def _remedy(number: int) -> str:
    if number in FULL:
        return "make room there, or choose another folder (output_dir, store_dir, TMPDIR)"
    return "make it writable for you, or choose another folder (output_dir, store_dir, TMPDIR)"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields the error, what led to it, and those that other ranks have sent in it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        failures = getattr(one, "failures", None)  # of torch.distributed.checkpoint: the error of each rank
        if isinstance(failures, Mapping):
            waiting += [part[0] for part in failures.values() if isinstance(part, tuple)]
        waiting += [one.__cause__, one.__context__]


def _number(error: BaseException) -> int:
    """Returns the system's number of an error, 0 if it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if (found := IN_TEXT.search(str(error))) is not None:
        return int(found[1] or found[2])
    return errno.ENOSPC if CUT.search(str(error)) else 0
