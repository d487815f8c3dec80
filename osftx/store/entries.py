"""Trained phases on disk: one folder per fingerprint with a manifest of digests. Files that differ are never used.

    STORE/phases/<fingerprint>/   checkpoint/ best/ kept_inputs/ bases/ result.json metrics.jsonl manifest.json
    STORE/unfinished/<fingerprint>/  saves of a phase that is training or was interrupted
    STORE/eigenvectors/           decompositions of weights, by content
    STORE/evaluations/            scores of a model on an evaluation set, by both fingerprints
    STORE/answers/                generated answers of a model to an evaluation set, by both fingerprints
    STORE/data/                   tokenised data, by content (`data.prepare`)
    STORE/benchmarks/             scores of a model on a task of the lm-evaluation-harness, by both fingerprints
    STORE/locks/                  one file per fingerprint; the system releases a lock when its owner ends
    STORE/osftx_store.json        marks the folder as a store
    STORE/digests.json            digests of models that were read

An entry appears as a whole by one rename. Its files are hard links to those of the run folder where that is possible,
else copies; the run folder then links to the entry.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from osftx.config.run_layout import BEST, CHECKPOINT, METRICS, PHASE_RESULT
from osftx.store.scores import keep_score, read_score
from osftx.utils.files import link_or_copy, take_group, write_json
from osftx.utils.locks import waiting_lock
from osftx.utils.manifest import FileDigest, describe, differences, unreadable
from osftx.utils.ownership import close_to_others, not_ours

MARKER = "osftx_store.json"
"""File that marks a folder as a store."""
FINGERPRINT = re.compile(r"[0-9a-f]{32}")
FORMAT = 1
"""Version of the store's layout. Entries of another version are left alone."""
MANIFEST = "manifest.json"
RECORDS = (PHASE_RESULT, METRICS)
"""Files of a phase that are copied into a run folder. To the folders of a phase it gets links."""


@dataclass
class Manifest:
    """Content of the manifest of an entry."""

    fingerprint: str
    name: str
    """Name of the phase in the run that trained it."""
    parent: str
    """Fingerprint of the model that the phase started from."""
    created: str
    """Time at which the entry was made."""
    files: dict[str, FileDigest] = field(default_factory=dict)
    """Sizes and digests of the files, by path inside the entry."""
    format: int = FORMAT

    def is_complete(self) -> bool:
        """Returns whether it describes a phase: words that can be shown, and the digests of a result and a checkpoint.

        Raises AttributeError or TypeError for values of other types.
        """
        words = (self.fingerprint, self.name, self.parent, self.created)
        digests = all(type(file["size"]) is int and type(file["sha256"]) is str for file in self.files.values())
        parts = PHASE_RESULT in self.files and any(name.startswith(f"{CHECKPOINT}/") for name in self.files)
        return digests and parts and all(type(word) is str and word.isprintable() for word in words)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file["size"] for file in self.files.values())


@dataclass(frozen=True)
class Entry:
    """A stored phase."""

    folder: Path
    manifest: Manifest

    def problems(self, contents: bool = True) -> Iterator[str]:
        """Yields how the files differ from the manifest; without `contents` only files
        that are missing, unexpected or of another size."""
        yield from differences(self.folder, self.manifest.files, MANIFEST, contents=contents)


class PhaseStore:
    """The phase store in `folder`, which need not exist yet."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.phases = folder / "phases"
        self.unfinished = folder / "unfinished"
        self.eigenvectors = folder / "eigenvectors"
        self.evaluations = folder / "evaluations"
        self.benchmarks = folder / "benchmarks"
        self.generated = folder / "answers"
        self.data = folder / "data"
        self.known_digests = folder / "digests.json"
        self.marker = folder / MARKER
        self._told_unlocked = False

    def entries(self) -> list[Entry]:
        """Returns all complete entries of this format, the newest last. They are not verified."""
        found = [read_entry(path) for path in self.phases.glob("*") if "." not in path.name]
        return sorted((entry for entry in found if entry), key=lambda entry: entry.manifest.created)

    def find(self, fingerprint: str) -> Entry | None:
        """Returns the entry if it exists and agrees with its manifest, else None. Sets a damaged entry aside.

        An entry that cannot be read, or is of another version of the store, is left alone.
        """
        folder = self.phases / fingerprint
        if (reason := _unreadable(folder)) is not None:
            print(
                f"warning: store entry {folder} cannot be read ({reason}); it stays as it is, and the phase is trained "
                "for this run alone. Ask its owner for the right to read it, or give another store_dir",
                flush=True,
            )
            return None
        if not folder.exists() or of_another_format(folder):
            return None
        problems = list(entry_problems(folder))
        if not problems:
            return read_entry(folder)
        print(f"warning: store entry {folder} is damaged ({problems[0]}); the phase is trained again", flush=True)
        try:
            folder.rename(folder.with_name(f"{fingerprint}.damaged-{uuid4().hex[:8]}"))
        except OSError:
            print("warning: it could not be set aside, the store cannot be written", flush=True)
        return None

    def commit(self, fingerprint: str, name: str, parent: str, phase: Path, folders: Sequence[str] = ()) -> Entry:
        """Stores what a phase left in its folder: its checkpoints and records, and the `folders` of its method.

        Raises OSError if the store cannot be written or is full.
        """
        partial = self.phases / f"{fingerprint}.partial-{uuid4().hex[:8]}"
        try:
            self.claim()
            manifest = Manifest(fingerprint, name, parent, time.strftime("%Y-%m-%dT%H:%M:%S%z"))
            for path in self._parts(phase, folders):
                inside = path.relative_to(phase).as_posix()
                target = partial / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                if inside in RECORDS:  # a copy, because the run still writes to its own file
                    shutil.copyfile(path, target)
                else:
                    link_or_copy(path, target)
                    take_group(target)
                manifest.files[inside] = describe(target)
            write_json(partial / MANIFEST, asdict(manifest))
            target = self.phases / fingerprint
            partial.rename(target)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return Entry(target, manifest)

    def make_room(self, fingerprint: str) -> Path | None:
        """Makes and returns the folder in which a phase keeps what it needs to continue after an interruption.

        Returns None if the store cannot be written, or if another user may have written what is in it.
        """
        folder = self.unfinished / fingerprint
        try:
            self.claim()
            with suppress(FileExistsError):
                self.unfinished.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                close_to_others(folder)
            refused = not_ours(folder)
        except OSError:
            return None
        if refused is not None:
            print(
                f"warning: saves of this phase are not read, because another user may have written them ({refused}); "
                f"the phase begins anew and is not saved in between. Remove {folder}, let its owner go on with it, or "
                "give a store of your own (store_dir=DIR)",
                flush=True,
            )
            return None
        return folder if os.access(folder, os.W_OK) else None

    def clear_room(self, fingerprint: str) -> None:
        """Removes the folder of `make_room` when the phase is done."""
        shutil.rmtree(self.unfinished / fingerprint, ignore_errors=True)

    @contextmanager
    def lock(self, fingerprint: str, doing: str = "training this phase") -> Iterator[bool]:
        """Holds the lock of a fingerprint while its phase is looked up, trained and committed.

        Another run waits, and then finds the phase. `doing` describes the work in the message that the waiting run
        prints. Yields whether the lock is held: a store that cannot be written cannot be locked, which is told once.
        """
        path = self.folder / "locks" / f"{fingerprint}.lock"
        reason = f"another run is {doing}; waiting to reuse it (if no run is alive, remove {path})"
        with ExitStack() as held:
            try:
                self.claim()
                held.enter_context(waiting_lock(path, reason))
            except OSError as error:
                self._tell_unlocked(path, error)
                yield False
                return
            yield True

    def claim(self) -> None:
        """Marks the folder as a store, so that only such a folder is ever tidied. Raises OSError if it cannot be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.marker.exists():
            write_json(self.marker, {"format": FORMAT})

    def exists(self) -> bool:
        """Returns whether the folder is a store: marked as one, or filled as one by a version that did not mark it."""
        inside = (path.name for folder in (self.phases, self.unfinished) for path in folder.glob("*"))
        return os.path.isfile(self.marker) or any(FINGERPRINT.fullmatch(name.partition(".")[0]) for name in inside)

    def _tell_unlocked(self, path: Path, error: OSError) -> None:
        if not self._told_unlocked:
            self._told_unlocked = True
            print(
                f"warning: {path} cannot be locked ({error.strerror or error}); what the store has is reused, but a "
                "run that trains the same phase at the same time is not seen, and nothing is saved in between. Give a "
                "store_dir that you may write to, on a file system with locks",
                flush=True,
            )

    def evaluation(self, model: str, data: str) -> dict[str, float] | None:
        """Returns the scores of a model on an evaluation set, both given by fingerprint; None if not stored."""
        known = read_score(self._evaluation_file(model, data))
        numbers = known is not None and all(isinstance(value, int | float) for value in known.values())
        return known if numbers else None

    def keep_evaluations(self, model: str, data: Mapping[str, str], measured: Mapping[str, dict[str, float]]) -> None:
        """Stores the scores `measured` of a model, by evaluation set; `data` holds the fingerprints of the sets.

        Does nothing if the store cannot be written.
        """
        for name, figures in measured.items():
            keep_score(self._evaluation_file(model, data[name]), figures)

    def benchmark(self, model: str, task: str) -> dict[str, Any] | None:
        """Returns the score of a model on a task, both given by fingerprint; None if it is not stored."""
        known = read_score(self._benchmark_file(model, task))
        return known if known is not None and {"metric", "value", "details"} <= known.keys() else None

    def keep_benchmark(self, model: str, task: str, score: Mapping[str, Any]) -> None:
        """Stores the score of a model on a task. Does nothing if the store cannot be written."""
        keep_score(self._benchmark_file(model, task), score)

    def answers(self, model: str, data: str) -> list[dict[str, Any]] | None:
        """Returns the answers of a model to an evaluation set, both given by fingerprint; None if not stored."""
        known = (read_score(self._answers_file(model, data)) or {}).get("answers")
        keys = {"ids", "end"}
        whole = isinstance(known, list) and all(isinstance(one, dict) and keys <= one.keys() for one in known)
        return known if whole else None

    def keep_answers(self, model: str, data: str, answers: Sequence[Mapping[str, Any]]) -> None:
        """Stores the answers of a model to an evaluation set. Does nothing if the store cannot be written."""
        keep_score(self._answers_file(model, data), {"answers": list(answers)})

    def _answers_file(self, model: str, data: str) -> Path:
        return self.generated / f"{model}-{data}.json"

    def _benchmark_file(self, model: str, task: str) -> Path:
        return self.benchmarks / f"{model}-{task}.json"

    def _evaluation_file(self, model: str, data: str) -> Path:
        return self.evaluations / f"{model}-{data}.json"

    @staticmethod
    def _parts(phase: Path, folders: Sequence[str]) -> Iterator[Path]:
        for part in (CHECKPOINT, BEST, *folders):
            yield from (path for path in sorted((phase / part).rglob("*")) if path.is_file())
        yield from (phase / record for record in RECORDS if (phase / record).is_file())


def read_entry(folder: Path) -> Entry | None:
    """Returns the entry in a folder, its files not verified; None if there is none of this format.

    There is none either where the manifest is that of another phase, or names no checkpoint and no result.
    """
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        whole = manifest.is_complete()
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None
    own = manifest.fingerprint == folder.name and manifest.format == FORMAT
    return Entry(folder, manifest) if whole and own else None


def entry_problems(folder: Path) -> Iterator[str]:
    """Yields what is wrong with the entry in a folder: with its manifest, or how its files differ from that."""
    entry = read_entry(folder)
    if entry is not None:
        yield from entry.problems()
        return
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found, named = content["format"], content["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        yield f"{MANIFEST} cannot be read"
        return
    if found != FORMAT:
        yield f"it is of version {found} of the store, not {FORMAT}"
    elif named != folder.name:
        yield f"it is the entry of {named}"
    else:
        yield f"{MANIFEST} is incomplete"


def of_another_format(folder: Path) -> bool:
    """Returns whether a folder holds an entry of another version of the store."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["format"] != FORMAT)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def verified(folder: Path) -> Entry | None:
    """Returns the entry in a folder if every file agrees with its manifest, else None."""
    entry = read_entry(folder)
    return entry if entry is not None and not any(entry.problems()) else None


def _unreadable(folder: Path) -> str | None:
    reason = unreadable(folder, [MANIFEST])
    entry = read_entry(folder) if reason is None else None
    return unreadable(folder, entry.manifest.files) if entry is not None else reason


def use(entry: Entry, phase: Path) -> None:
    """Fills the phase folder of a run from a stored phase: links to its folders, copies of its records."""
    phase.mkdir(parents=True, exist_ok=True)
    for stored in sorted(path.resolve() for path in entry.folder.iterdir() if path.is_dir()):
        here = phase / stored.name
        if here.is_dir() and not here.is_symlink():
            shutil.rmtree(here)  # trained here, and in the store by now
        here.unlink(missing_ok=True)
        here.symlink_to(stored, target_is_directory=True)
    for record in RECORDS:
        if (entry.folder / record).is_file():
            shutil.copyfile(entry.folder / record, phase / record)
