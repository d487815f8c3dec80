"""Digests of files that were read before. A file that was not touched since then is not read again.

A file is known again by its device and inode, its size, and the times of its last change. The time of change of the
inode (ctime) moves with every write and cannot be set back, as the time of modification can.
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from osftx.utils.files import write_json
from osftx.utils.manifest import digest

SETTLED_S = 2.0
"""Age in seconds of the last change from which on a further change must show in the times of a file. File systems count
time in steps, so two changes within one step look like one."""


class FileState(NamedTuple):
    """What tells whether a file was touched."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class KnownFile(NamedTuple):
    """The digest of a file, and the state of the file when it was read."""

    sha256: str
    state: FileState | None
    """None if a change right after the reading might not show."""


class KnownDigests:
    """The digests in the JSON file `path`, which need not exist and only saves time; None: nothing is remembered."""

    def __init__(self, path: Path | None):
        self.path = path
        self._known = _read(path)
        self._new = False

    def of(self, file: Path) -> KnownFile:
        """Returns the digest of a file, read now unless the file is known. Raises OSError if it cannot be read."""
        real = file.resolve()
        known = self._known.get(str(real))
        if known is not None and known.state == state_of(real):
            return known
        found = read_file(real)
        if found.state is not None:
            self._known[str(real)] = found
            self._new = True
        return found

    def entries(self) -> dict[Path, KnownFile]:
        """Returns everything that is remembered."""
        return {Path(path): known for path, known in self._known.items()}

    def keep(self) -> None:
        """Writes what was read since; does nothing if the file cannot be written, as in a read-only store."""
        if self.path is not None and self._new:
            with suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, {path: [known.sha256, known.state] for path, known in self._known.items()})


def state_of(path: Path) -> FileState:
    """Returns the present state of a file. Raises OSError if it cannot be looked at."""
    found = os.stat(path)
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_file(path: Path) -> KnownFile:
    """Reads a file and returns its digest with its state. Raises OSError if it cannot be read."""
    begun, before = time.time(), state_of(path)
    sha256 = digest(path)
    settled = max(before.mtime_ns, before.ctime_ns) / 1e9 < begun - SETTLED_S
    return KnownFile(sha256, before if settled and state_of(path) == before else None)


def unchanged(path: Path, known: KnownFile) -> bool:
    """Returns whether a file still has the content that is known; it is read only if it was touched since.

    Raises OSError if it cannot be looked at.
    """
    if known.state is not None and known.state == state_of(path):
        return True
    return digest(path) == known.sha256


def _read(path: Path | None) -> dict[str, KnownFile]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        return {name: KnownFile(str(sha256), FileState(*state)) for name, (sha256, state) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # missing, damaged or of an older format
        return {}
