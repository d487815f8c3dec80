"""Tokenised samples on disk: written by the launching process, read by every rank through a memory map."""

import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from osftx.config.schema import DataConfig
from osftx.errors import ConfigurationError
from osftx.utils.known_digests import KnownDigests
from osftx.utils.locks import waiting_lock
from osftx.utils.manifest import describe, unreadable

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ListArray, RecordBatch

SAMPLES_FILE = "samples.arrow"
SUMMARY_FILE = "summary.json"
INDEX_FILE = "index.npy"
LOCKS = "locks"
"""Name of the folder of lock files, beside the folders of samples; it holds one file for each of them."""
KNOWN = "digests.json"
"""Name of the file of known digests, in the folder of lock files."""
WAITING = "another run is tokenising the same data; waiting for it"
DIGEST_BYTES = 8
EMPTY_TURNS = "empty last turns, left out"
CONTEXT_TURNS = "first assistant turns, not trained on"
SHORTENED = "shortened to max_seq_len"
ADJUSTMENTS = (EMPTY_TURNS, CONTEXT_TURNS, SHORTENED)
"""Names of what is adjusted in rows, in the order in which it is shown."""


class TokenBatch(NamedTuple):
    """Several samples, concatenated."""

    input_ids: np.ndarray
    """Token ids of all samples, (tokens,) int32."""
    counted: np.ndarray
    """Whether the loss counts the prediction of each token, (tokens,) bool."""
    lengths: np.ndarray
    """Number of tokens of each sample, (samples,) int64."""


class SkippedRow(NamedTuple):
    place: str
    """File and line of the row, as named when the row was read."""
    reason: str


@dataclass
class DataSummary:
    """Counts that describe prepared data."""

    path: str
    """Files, folder or Hub name that was read."""
    samples: int = 0
    """Number of samples that are trained on."""
    dropped: int = 0
    """Number of samples that are left out because they are longer than max_seq_len."""
    tokens: int = 0
    """Number of tokens of the samples that are trained on."""
    longest: int = 0
    """Number of tokens of the longest sample, whether it was dropped or not."""
    longest_sample: int = 0
    """Number of tokens of the longest sample that is trained on."""
    highest_id: int = 0
    """Highest token id in the samples that are trained on."""
    turns: dict[str, int] = field(default_factory=dict)
    """Number of messages of each role in the conversations, whether they were dropped or not."""
    skipped: int = 0
    """Number of rows that could not be used and were left out."""
    skipped_rows: list[SkippedRow] = field(default_factory=list)
    """The first of the rows that were skipped."""
    special_rows: int = 0
    """Number of rows whose contents spell out special tokens."""
    first_special_rows: list[str] = field(default_factory=list)
    """Places of the first of these rows."""
    spelled_tokens: list[str] = field(default_factory=list)
    """The special tokens that contents spell out, sorted."""
    adjusted: dict[str, int] = field(default_factory=dict)
    """Numbers of what was adjusted in rows, by the names in `ADJUSTMENTS`; nothing that was not."""


class Prepared(NamedTuple):
    """The result of preparing data."""

    folder: Path | None
    """Folder of the samples; None if nothing was written."""
    summary: DataSummary
    lengths: np.ndarray
    """Number of tokens of each sample, (samples,) uint64."""
    digests: np.ndarray
    """Hash of each sample's tokens, (samples,) uint64, with which equal samples are found without reading them
    again."""
    content: str
    """Hash of the content that was read, before it was tokenised."""


Reader = Callable[[str, DataConfig, int, int], Prepared]
"""A function that prepares data. Arguments: its name in results, its settings, the maximum tokens of a sample, and a
seed for its weights."""


class Index:
    """Collects the length and the digest of each sample."""

    def __init__(self) -> None:
        self._lengths, self._digests = array("Q"), array("Q")

    def add(self, batch: TokenBatch) -> None:
        end = 0
        for length in batch.lengths.tolist():
            start, end = end, end + length
            digest = hashlib.blake2b(batch.input_ids[start:end].tobytes(), digest_size=DIGEST_BYTES).digest()
            self._lengths.append(length)
            self._digests.append(int.from_bytes(digest, "little"))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns lengths and digests, as in `Prepared`."""
        return np.array(self._lengths, dtype=np.uint64), np.array(self._digests, dtype=np.uint64)


def write_once(target: Path, write: Callable[[Path], None]) -> None:
    """Creates the folder `target` with `write`, unless it exists and is complete.

    `write` fills an unfinished folder, which is renamed once it is complete and removed if `write` raises. Only one
    process at a time creates a folder; another process waits and then finds it. Raises ConfigurationError if nothing
    can be written there, and whatever `write` raises.
    """
    if (reason := unreadable(target, (SUMMARY_FILE, SAMPLES_FILE, INDEX_FILE))) is not None:
        raise ConfigurationError(
            [f"data.processing_dir: {reason}: ask for the right to read it, or name a folder of your own"]
        )
    if _is_whole(target):
        return
    try:
        with waiting_lock(target.parent / LOCKS / target.name, WAITING):
            if not _is_whole(target):
                shutil.rmtree(target, ignore_errors=True)  # cleaners of temporary folders delete single files
                _fill(target, write)
    except OSError as error:
        raise ConfigurationError(
            [
                f"data.processing_dir: {target.parent} cannot be written ({error.strerror or error}); name a folder "
                "with enough room that you may write to"
            ]
        ) from error


def _fill(target: Path, write: Callable[[Path], None]) -> None:
    place = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(place, ignore_errors=True)  # left by a process that was killed
    place.mkdir()
    try:
        write(place)
        for path in place.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        place.rename(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Returns whether the folder is complete and holds what was written; tells if it does not.

    Files that were not touched since they were last read are not read again.
    """
    if not folder.is_dir():
        return False
    digests = KnownDigests(folder.parent / LOCKS / KNOWN)
    problem = samples_problem(folder, digests)
    digests.keep()
    if problem is not None:
        print(f"warning: tokenised data {folder} is not used ({problem}); it is made anew", flush=True)
    return problem is None


def samples_problem(folder: Path, digests: KnownDigests | None = None) -> str | None:
    """Returns how a folder of tokenised samples differs from what was written there; None if it does not."""
    digests = digests or KnownDigests(None)
    try:
        files = _summary(folder)["files"]
        read_index(folder)
        for name in (SAMPLES_FILE, INDEX_FILE):
            if digests.of(folder / name).sha256 != files[name]["sha256"]:
                return f"{name} has another content"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _summary(folder: Path) -> dict[str, Any]:
    """Returns the content of the summary file. Raises ValueError if it is not what was written."""
    content = dict(json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8")))
    if content.pop("sha256", None) != _hash(content):
        raise ValueError(f"{SUMMARY_FILE} has another content")
    return content


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def samples_file(folder: Path) -> "Iterator[Callable[[RecordBatch], object]]":
    """Opens the file of samples in `folder` for writing; yields the function that appends a `record` of samples."""
    import pyarrow  # the import takes a tenth of a second

    lists = {"input_ids": pyarrow.list_(pyarrow.int32()), "counted": pyarrow.list_(pyarrow.bool_())}
    with pyarrow.ipc.new_stream(str(folder / SAMPLES_FILE), pyarrow.schema(lists)) as stream:
        yield stream.write_batch


def record(batch: TokenBatch) -> "RecordBatch":
    """Returns the samples in the form that `samples_file` writes."""
    import pyarrow

    bounds = pyarrow.array(np.concatenate([[0], np.cumsum(batch.lengths)]), pyarrow.int32())
    columns = [pyarrow.ListArray.from_arrays(bounds, values) for values in (batch.input_ids, batch.counted)]
    return pyarrow.record_batch(columns, names=["input_ids", "counted"])


def prepared_folders(folder: Path) -> set[Path]:
    """Returns the folders of tokenised samples in `folder`."""
    return {path.parent for path in folder.glob(f"*/{SAMPLES_FILE}")}


def remove_prepared(folder: Path, made: Iterable[Path]) -> None:
    """Removes the folders `made` in `folder`, and `folder` itself if nothing else is in it."""
    for one in made:
        shutil.rmtree(one, ignore_errors=True)
        (folder / LOCKS / one.name).unlink(missing_ok=True)
    if not prepared_folders(folder):
        (folder / LOCKS / KNOWN).unlink(missing_ok=True)
    for empty in (folder / LOCKS, folder):
        with suppress(OSError):
            empty.rmdir()


def write_index(folder: Path, summary: DataSummary, lengths: np.ndarray, digests: np.ndarray) -> None:
    """Writes the summary, lengths and digests of the samples in `folder` for `read_index`.

    The samples must have been written before.
    """
    np.save(folder / INDEX_FILE, np.stack([lengths, digests]))
    files = {name: describe(folder / name) for name in (SAMPLES_FILE, INDEX_FILE)}
    content = json.loads(json.dumps({"files": files, "summary": asdict(summary)}))  # tuples as they are read
    (folder / SUMMARY_FILE).write_text(
        json.dumps(content | {"sha256": _hash(content)}, indent=2) + "\n", encoding="utf-8"
    )


def read_index(folder: Path) -> tuple[DataSummary, np.ndarray, np.ndarray]:
    """Returns summary, lengths and digests, as in `Prepared`.

    The content of the samples is not compared; `write_once` has done so. Raises OSError, ValueError, TypeError or
    KeyError if something is missing or truncated.
    """
    content = _summary(folder)
    wanted = content["files"][SAMPLES_FILE]["size"]
    if (size := (folder / SAMPLES_FILE).stat().st_size) != wanted:
        raise ValueError(f"{folder / SAMPLES_FILE} has {size} bytes instead of {wanted}")
    summary = DataSummary(**content["summary"])
    summary.skipped_rows = [SkippedRow(*row) for row in summary.skipped_rows]
    lengths, digests = np.load(folder / INDEX_FILE)
    return summary, lengths, digests


def load_samples(folder: str | Path) -> "Dataset":
    """Returns the samples, memory-mapped: columns `input_ids` (list of int32) and `counted` (list of bool).

    Args:
        folder: the `folder` of a `Prepared`.
    """
    from datasets import Dataset  # the import takes more than half a second

    return Dataset.from_file(str(Path(folder) / SAMPLES_FILE))


def sample_lengths(samples: "Dataset") -> np.ndarray:
    """Returns the number of tokens of each sample, (samples,) int64, without reading the tokens themselves."""
    from pyarrow import compute

    return compute.list_value_length(samples.data.column("input_ids")).to_numpy().astype(np.int64)


def counted_tokens(samples: "Dataset") -> np.ndarray:
    """Returns the number of tokens of each sample that the loss counts, (samples,) int64.

    The first token is never counted: no token before it could predict it. The written batches are read one after the
    other, so that memory stays bounded.
    """
    return np.concatenate([_marked_after_first(chunk) for chunk in samples.data.column("counted").chunks])


def _marked_after_first(lists: "ListArray") -> np.ndarray:
    """Returns how many marks of each list are true, from the second mark on."""
    marked_before = np.concatenate([[0], np.cumsum(lists.values.to_numpy(zero_copy_only=False))])
    bounds = lists.offsets.to_numpy()
    starts, ends = bounds[:-1], bounds[1:]
    return marked_before[ends] - marked_before[np.minimum(starts + 1, ends)]
