"""Trained phases on disk, one folder a fingerprint, each with a manifest of digests; nothing is used that differs.

    STORE/phases/<fingerprint>/   checkpoint/ best/ kept_inputs/ bases/ result.json metrics.jsonl manifest.json
    STORE/unfinished/<fingerprint>/  saves of a phase that is in training, or was broken off
    STORE/eigenvectors/           decompositions of weights, by content
    STORE/evaluations/            what a model answered on an evaluation set, by both their fingerprints
    STORE/data/                   tokenised data, by content (`data.prepare`)
    STORE/benchmarks/             what a model scored on a task of the lm-evaluation-harness, by both their fingerprints
    STORE/locks/                  one file a fingerprint; the system lets go of a lock when its owner ends

An entry appears by one rename, whole. Files are taken over as hard links where that is possible, without a copy; the
run folder then links to the entry.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from osftx.config.run_layout import BEST, CHECKPOINT, METRICS, PHASE_RESULT
from osftx.utils.files import link_or_copy, write_json
from osftx.utils.locks import waiting_lock
from osftx.utils.manifest import FileDigest, describe, differences

FORMAT = 1
"""Of the store's layout; entries of another one are left alone."""
MANIFEST = "manifest.json"
RECORDS = (PHASE_RESULT, METRICS)
"""Files of a phase that a run folder gets a copy of. It gets links to the folders of a phase."""


@dataclass
class Manifest:
    """What an entry holds."""

    fingerprint: str
    name: str
    """The phase's name in the run that trained it."""
    parent: str
    created: str
    files: dict[str, FileDigest] = field(default_factory=dict)
    """By path inside the entry."""
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        return sum(file["size"] for file in self.files.values())


@dataclass(frozen=True)
class Entry:
    folder: Path
    manifest: Manifest

    def problems(self, contents: bool = True) -> Iterator[str]:
        """How the files differ from the manifest; without `contents` only what is missing or of another size."""
        yield from differences(self.folder, self.manifest.files, MANIFEST, contents=contents)


class PhaseStore:
    """The store in `folder`, which need not exist yet."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.phases = folder / "phases"
        self.unfinished = folder / "unfinished"
        self.eigenvectors = folder / "eigenvectors"
        self.known_digests = folder / "digests.json"

    def entries(self) -> list[Entry]:
        """All whole entries of this format, the newest last; not verified."""
        found = [read_entry(path) for path in self.phases.glob("*") if "." not in path.name]
        return sorted((entry for entry in found if entry), key=lambda entry: entry.manifest.created)

    def find(self, fingerprint: str) -> Entry | None:
        """The entry, if it is there and every file is what the manifest says; a damaged one is set aside."""
        folder = self.phases / fingerprint
        if not folder.exists() or of_another_format(folder):
            return None
        entry = read_entry(folder)
        problems = list(entry.problems()) if entry is not None else [f"{MANIFEST} cannot be read"]
        if entry is not None and not problems:
            return entry
        print(f"warning: store entry {folder} is damaged ({problems[0]}); the phase is trained again", flush=True)
        try:
            folder.rename(folder.with_name(f"{fingerprint}.damaged-{uuid4().hex[:8]}"))
        except OSError:
            print("warning: it could not be set aside, the store cannot be written", flush=True)
        return None

    def commit(self, fingerprint: str, name: str, parent: str, phase: Path, folders: Sequence[str] = ()) -> Entry:
        """Keeps what a phase left in its folder: its checkpoints and records, and the `folders` of its method.

        Raises OSError when the store cannot be written, or is full.
        """
        partial = self.phases / f"{fingerprint}.partial-{uuid4().hex[:8]}"
        try:
            manifest = Manifest(fingerprint, name, parent, time.strftime("%Y-%m-%dT%H:%M:%S%z"))
            for path in self._parts(phase, folders):
                inside = path.relative_to(phase).as_posix()
                target = partial / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                if inside in RECORDS:  # the run folder goes on writing to its own
                    shutil.copyfile(path, target)
                else:
                    link_or_copy(path, target)
                manifest.files[inside] = describe(target)
            write_json(partial / MANIFEST, asdict(manifest))
            target = self.phases / fingerprint
            partial.rename(target)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return Entry(target, manifest)

    def make_room(self, fingerprint: str) -> Path | None:
        """Where a phase keeps what it needs to go on after it was broken off; None when the store cannot be written."""
        folder = self.unfinished / fingerprint
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
        return folder if os.access(folder, os.W_OK) else None

    def clear_room(self, fingerprint: str) -> None:
        """The phase is done: what it needed to go on is removed."""
        shutil.rmtree(self.unfinished / fingerprint, ignore_errors=True)

    @contextmanager
    def lock(self, fingerprint: str, doing: str = "training this phase") -> Iterator[None]:
        """Holds the lock of a fingerprint while its phase is looked up, trained and committed.

        Another run waits, and then finds the phase. `doing` describes the work, for the message that the waiting run
        prints. Where the store cannot be written, nothing is locked.
        """
        path = self.folder / "locks" / f"{fingerprint}.lock"
        reason = f"another run is {doing}; waiting to reuse it (if no run is alive, remove {path})"
        with ExitStack() as held:
            with suppress(OSError):
                held.enter_context(waiting_lock(path, reason))
            yield

    def evaluation(self, model: str, data: str) -> dict[str, float] | None:
        """What the model with this fingerprint was measured at on that data, if it was."""
        try:
            known = json.loads(self._evaluation_file(model, data).read_text())
        except (OSError, ValueError):
            return None
        whole = isinstance(known, dict) and known and all(isinstance(value, int | float) for value in known.values())
        return known if whole else None

    def keep_evaluations(self, model: str, data: Mapping[str, str], measured: Mapping[str, dict[str, float]]) -> None:
        """Remember what the model was `measured` at, by set; `data` has the sets' fingerprints."""
        for name, figures in measured.items():
            path = self._evaluation_file(model, data[name])
            with suppress(OSError):  # a store that can only be read: it is measured again next time
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, figures)

    def benchmark(self, model: str, task: str) -> dict[str, Any] | None:
        """What the model with this fingerprint scored on that task, if it was measured."""
        try:
            known = json.loads(self._benchmark_file(model, task).read_text())
        except (OSError, ValueError):
            return None
        return known if isinstance(known, dict) and {"metric", "value", "details"} <= known.keys() else None

    def keep_benchmark(self, model: str, task: str, score: Mapping[str, Any]) -> None:
        path = self._benchmark_file(model, task)
        with suppress(OSError):  # a store that can only be read: it is measured again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, score)

    def _benchmark_file(self, model: str, task: str) -> Path:
        return self.folder / "benchmarks" / f"{model}-{task}.json"

    def _evaluation_file(self, model: str, data: str) -> Path:
        return self.folder / "evaluations" / f"{model}-{data}.json"

    @staticmethod
    def _parts(phase: Path, folders: Sequence[str]) -> Iterator[Path]:
        for part in (CHECKPOINT, BEST, *folders):
            yield from (path for path in sorted((phase / part).rglob("*")) if path.is_file())
        yield from (phase / record for record in RECORDS if (phase / record).is_file())


def read_entry(folder: Path) -> Entry | None:
    """The entry in a folder, not verified; None if there is none of this format."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text()))
        whole = all({"size", "sha256"} <= file.keys() for file in manifest.files.values())
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return Entry(folder, manifest) if whole and manifest.format == FORMAT else None


def of_another_format(folder: Path) -> bool:
    """Whether the folder holds an entry of another version of the store."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text())["format"] != FORMAT)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def verified(folder: Path) -> Entry | None:
    """The entry in a folder if every file is what the manifest says."""
    entry = read_entry(folder)
    return entry if entry is not None and not any(entry.problems()) else None


def use(entry: Entry, phase: Path) -> None:
    """Makes the phase folder of a run show a stored phase: links to its folders, copies of its records."""
    phase.mkdir(parents=True, exist_ok=True)
    for stored in sorted(path.resolve() for path in entry.folder.iterdir() if path.is_dir()):
        here = phase / stored.name
        if here.is_dir() and not here.is_symlink():
            shutil.rmtree(here)  # what was trained here, and is in the store now
        here.unlink(missing_ok=True)
        here.symlink_to(stored, target_is_directory=True)
    for record in RECORDS:
        if (entry.folder / record).is_file():
            shutil.copyfile(entry.folder / record, phase / record)
