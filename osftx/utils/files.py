"""Files: written whole or not at all, so that a reader never meets half of one, also after a crash."""

import json
import os
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")  # several runs may write one file
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Raises ValueError for NaN and infinity, which JSON does not have and other programs cannot read."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that nobody changes, or a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def link_folder(source: Path, target: Path) -> None:
    """`target` with all files of `source`, by `link_or_copy`; nothing if there is no `source`."""
    for path in source.rglob("*"):
        if path.is_file():
            here = target / path.relative_to(source)
            here.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, here)


def nearest(folder: str | Path) -> Path:
    """The folder, in which `~` is the home folder, or the nearest one above it that is seen to exist."""
    path = Path(folder).expanduser().resolve()
    # Not Path.exists, which raises where nobody may look.
    return next(place for place in (path, *path.parents) if os.path.exists(place))
