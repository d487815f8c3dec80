"""Writing and linking files. A file is written whole or not at all, even in a crash."""

import json
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8, whole or not at all. Half characters, as of a name that is not UTF-8, become escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes, whole or not at all. An OSError names the file."""
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")  # unique, as several runs may write one file
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all. Raises ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def link_or_copy(source: Path, target: Path) -> None:
    """Makes `target` a hard link to `source`, which nobody may change, or a copy if a link is not possible."""
    try:
        os.link(source, target)
    except OSError:  # on another file system, or one without hard links
        shutil.copyfile(source, target)


def take_group(path: Path) -> None:
    """Gives a file the group of its folder where that hands its group on (setgid), which links do not follow."""
    folder = path.parent.stat()
    if folder.st_mode & stat.S_ISGID and path.stat().st_gid != folder.st_gid:
        with suppress(OSError):  # another user's file
            os.chown(path, -1, folder.st_gid)


def link_folder(source: Path, target: Path) -> None:
    """Links or copies all files below `source` into `target`. Does nothing if `source` does not exist."""
    for path in source.rglob("*"):
        if path.is_file():
            here = target / path.relative_to(source)
            here.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, here)


def expanded(path: str | Path) -> Path:
    """Returns a path with `~` as the home folder; with the name of no user after it, unchanged."""
    return Path(os.path.expanduser(path))  # the method of Path raises for no user


def of_no_user(path: str | Path) -> str | None:
    """Returns what is wrong with a path whose `~NAME` is no user's home folder; None for any other path."""
    name = str(expanded(path)).partition("/")[0]
    return f"there is no user {name[1:] or '(no home folder)'}; write the whole path" if name.startswith("~") else None


def nearest(folder: str | Path) -> Path:
    """Returns the folder (`~` is the home folder) or its nearest ancestor that can be seen to exist."""
    path = expanded(folder).resolve()
    # os.path.exists, because Path.exists raises in folders without permission.
    return next(place for place in (path, *path.parents) if os.path.exists(place))
