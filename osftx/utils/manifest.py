"""Digests of the files of a folder, and whether the folder still holds what they say. Needs no torch.

A sealed folder carries its own manifest and appears by one rename: `begin` it, write into it, `seal` it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from osftx.utils.files import write_json

MANIFEST = "manifest.json"


class FileDigest(TypedDict):
    size: int
    """Bytes."""
    sha256: str


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            sha.update(block)
    return sha.hexdigest()


def describe(path: Path) -> FileDigest:
    """Size and digest of a file. Raises OSError."""
    return {"size": path.stat().st_size, "sha256": digest(path)}


def files_in(folder: Path, *besides: str) -> list[str]:
    """Every file below `folder`, by its path inside, in a fixed order; without those named `besides`."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name not in besides)


def differences(
    folder: Path, expected: Mapping[str, FileDigest], *besides: str, contents: bool = True
) -> Iterator[str]:
    """How `folder` differs from what is `expected` of it, a line each; the files `besides` are not looked at.

    Without `contents` only what is missing, too much, or of another size.
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
    """How a file differs from what it should be; None if it does not."""
    try:
        size = path.stat().st_size
        if size != wanted["size"]:
            return f"has {size} bytes instead of {wanted['size']}"
        return None if not contents or digest(path) == wanted["sha256"] else "has another content"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def begin(folder: Path) -> Path:
    """An empty folder to write into what `seal` then makes `folder`; one writer at a time."""
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def partial_of(folder: Path) -> Path:
    """Where `begin` lets write."""
    return folder.with_name(f"{folder.name}.partial")


def seal(folder: Path, files: Mapping[str, FileDigest] | None = None) -> None:
    """Give what was begun its manifest and its name; replaces an older `folder`. `files`: digests, if known already."""
    partial = partial_of(folder)
    if files is None:
        files = {name: describe(partial / name) for name in files_in(partial)}
    write_json(partial / MANIFEST, {"files": dict(files)})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def seal_of(folder: Path) -> dict[str, FileDigest] | None:
    """What a sealed folder should hold; None if it is not there, or not sealed. Whether it holds it: `differences`."""
    try:
        files = dict(json.loads((folder / MANIFEST).read_text())["files"])
        return files if all({"size", "sha256"} <= file.keys() for file in files.values()) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def is_whole(folder: Path) -> bool:
    """Whether `folder` is sealed and every file is what it was then."""
    expected = seal_of(folder)
    return expected is not None and not any(differences(folder, expected, MANIFEST))
