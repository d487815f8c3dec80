"""Digests of the files of a folder, and the check that the folder still agrees with them. It needs no torch.

A sealed folder contains its own manifest and appears by one rename: `begin` it, write into it, `seal` it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from osftx.utils.files import write_json

MANIFEST = "manifest.json"


class FileDigest(TypedDict):
    size: int
    """Size of the file in bytes."""
    sha256: str
    """SHA-256 of the content as hexadecimal digits."""


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file's content as hexadecimal digits. Raises OSError if it cannot be read."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            sha.update(block)
    return sha.hexdigest()


def describe(path: Path) -> FileDigest:
    """Returns the size and digest of a file. Raises OSError if it cannot be read."""
    return {"size": path.stat().st_size, "sha256": digest(path)}


def files_in(folder: Path, *besides: str) -> list[str]:
    """Returns the paths of all files below `folder`, relative to it and sorted, without those in `besides`."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name not in besides)


def differences(
    folder: Path, expected: Mapping[str, FileDigest], *besides: str, contents: bool = True
) -> Iterator[str]:
    """Yields one line for each difference between `folder` and the `expected` files; files in `besides` are ignored.

    Without `contents` only missing and unexpected files and other sizes are reported, and no file is read.
    """
    present = set(files_in(folder, *besides))
    for name in sorted(present - expected.keys()):
        yield f"{name} is not in the manifest"
    for name, wanted in expected.items():
        if name not in present:
            yield f"{name} is missing"
        elif (problem := file_problem(folder / name, wanted, contents)) is not None:
            yield f"{name} {problem}"


def file_problem(path: Path, wanted: FileDigest, contents: bool = True) -> str | None:
    """Returns how a file differs from its `wanted` size and digest; None if it does not. See `differences`."""
    try:
        size = path.stat().st_size
        if size != wanted["size"]:
            return f"has {size} bytes instead of {wanted['size']}"
        return None if not contents or digest(path) == wanted["sha256"] else "has another content"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def unreadable(folder: Path, names: Iterable[str]) -> str | None:
    """Returns why this user cannot read a folder or one of its files; None if that is possible, or they are missing.

    What cannot be read need not be damaged: it may be another user's, or on a disk that does not answer.
    """
    try:
        if folder.is_dir():
            next(folder.iterdir(), None)
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError), (folder / name).open("rb"):
                pass
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return None


def begin(folder: Path) -> Path:
    """Makes and returns an empty folder to write into, which `seal` renames to `folder`. For one writer at a time."""
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def partial_of(folder: Path) -> Path:
    """Returns the path of the folder that `begin` makes for `folder`."""
    return folder.with_name(f"{folder.name}.partial")


def seal(folder: Path, files: Mapping[str, FileDigest] | None = None) -> None:
    """Writes the manifest of a begun folder and renames it to `folder`, which replaces an older one.

    `files` holds the digests if they are already known.
    """
    partial = partial_of(folder)
    if files is None:
        files = {name: describe(partial / name) for name in files_in(partial)}
    write_json(partial / MANIFEST, {"files": dict(files)})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def seal_of(folder: Path) -> dict[str, FileDigest] | None:
    """Returns the files that a sealed folder should hold; None if it does not exist or is not sealed.

    The files are not checked; `differences` does that.
    """
    try:
        files = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
        return files if all({"size", "sha256"} <= file.keys() for file in files.values()) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def is_whole(folder: Path) -> bool:
    """Returns whether `folder` is sealed and every file agrees with its manifest."""
    expected = seal_of(folder)
    return expected is not None and not any(differences(folder, expected, MANIFEST))
