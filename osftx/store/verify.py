"""Compares everything in the store with its digests."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from osftx.config.run_layout import save_folder, saved_steps
from osftx.data.samples import KNOWN, LOCKS, prepared_folders, samples_problem
from osftx.store.entries import FINGERPRINT, PhaseStore, entry_problems, read_entry
from osftx.store.scores import score_problem
from osftx.utils.known_digests import KnownDigests, KnownFile, state_of
from osftx.utils.manifest import MANIFEST, differences, digest, seal_of, unreadable

WHOLE = "as it was written"


def verify(store: PhaseStore) -> Iterator[tuple[str, str | None]]:
    """Yields the name of each part of the store and what is wrong with it, None if nothing is. Reads everything."""
    for folder in sorted(path for path in store.phases.glob("*") if FINGERPRINT.fullmatch(path.name)):
        entry = read_entry(folder)
        name = f" {entry.manifest.name}" if entry is not None else ""
        reason = unreadable(folder, [MANIFEST, *(entry.manifest.files if entry is not None else ())])
        problem = f"cannot be read ({reason})" if reason is not None else _together(entry_problems(folder))
        yield f"{folder.name[:12]}{name}", problem
    for folder in sorted(store.unfinished.glob("*")):
        if (reason := unreadable(folder, [])) is not None:
            yield f"saves {folder.name[:12]}", f"cannot be read ({reason})"
            continue
        for steps in saved_steps(folder):
            yield f"save {folder.name[:12]} {steps}", _save(save_folder(folder, steps))
    for folder in sorted(prepared_folders(store.data)):
        yield f"data {folder.name[:12]}", samples_problem(folder)
    for path in sorted(store.eigenvectors.glob("*.safetensors")):
        yield f"decomposition {path.name[:12]}", _eigenvectors(path)
    for folder in (store.evaluations, store.benchmarks, store.generated):
        yield from ((f"{folder.name} {path.name}", score_problem(path)) for path in sorted(folder.glob("*.json")))
    for path in (store.known_digests, store.data / LOCKS / KNOWN):
        yield from _known_digests(path)


def _known_digests(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yields the files of which a wrong digest is remembered, or that the list cannot be read, or that all is well."""
    if not path.is_file():
        return
    known = KnownDigests(path).entries()
    if not known:
        yield str(path), "holds no digests, is damaged or of an earlier version; it may be removed"
        return
    wrong = [str(file) for file, found in sorted(known.items()) if not _right(file, found)]
    yield str(path), f"wrong digests of {', '.join(wrong)}; it may be removed" if wrong else None


def _right(file: Path, known: KnownFile) -> bool:
    """Returns whether a digest is that of the file, or is not going to be used: the file was touched or is gone."""
    try:
        return known.state != state_of(file) or digest(file) == known.sha256
    except OSError:
        return True


def _save(folder: Path) -> str | None:
    files = seal_of(folder)
    if files is None:
        return f"{MANIFEST} cannot be read"
    return unreadable(folder, files) or _together(differences(folder, files, MANIFEST))


def _eigenvectors(path: Path) -> str | None:
    try:
        with safe_open(path, framework="np") as file:
            content = file.get_tensor("vectors")
            about = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        return f"cannot be read ({error})"
    if about.get("name", path.name) != path.name:
        return f"it is the file {about['name']}"
    same = hashlib.sha256(content.tobytes()).hexdigest() == about.get("sha256")
    return None if same else "has another content"


def _together(problems: Iterator[str]) -> str | None:
    return "; ".join(problems) or None
