"""Tokenised samples on disk: written by the parent process, read by every rank through a memory map."""

import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from osftx.config.schema import DataConfig
from osftx.errors import ConfigurationError
from osftx.utils.locks import waiting_lock

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ListArray, RecordBatch

SAMPLES_FILE = "samples.arrow"
SUMMARY_FILE = "summary.json"
INDEX_FILE = "index.npy"
LOCKS = "locks"
"""Beside the folders of samples: one file for each."""
WAITING = "another run is tokenising the same data; waiting for it"
DIGEST_BYTES = 8


class TokenBatch(NamedTuple):
    """Samples, one behind the other."""

    input_ids: np.ndarray
    """(tokens,) int32."""
    counted: np.ndarray
    """Whether loss is counted on predicting a token, (tokens,) bool."""
    lengths: np.ndarray
    """Tokens of each sample, (samples,) int64."""


class SkippedRow(NamedTuple):
    place: str
    """File and line, as they were called when the row was read."""
    reason: str


@dataclass
class DataSummary:
    """What some data amounts to."""

    path: str
    """What was read: files, a folder, a name."""
    samples: int = 0
    """Samples that are trained on."""
    dropped: int = 0
    """Samples that are left out because they are longer than max_seq_len."""
    tokens: int = 0
    """Tokens of the samples."""
    longest: int = 0
    """Tokens of the longest sample, whether it was dropped or not."""
    longest_sample: int = 0
    """Tokens of the longest one that is trained on."""
    highest_id: int = 0
    """Highest token id of the samples."""
    turns: dict[str, int] = field(default_factory=dict)
    """Messages of each role in the conversations, whether they were dropped or not."""
    skipped: int = 0
    """Rows that could not be used and were left out."""
    skipped_rows: list[SkippedRow] = field(default_factory=list)
    """The first of them."""


class Prepared(NamedTuple):
    """What has become of some data."""

    folder: Path | None
    """Where the samples are; None when nothing was written."""
    summary: DataSummary
    lengths: np.ndarray
    """Tokens of each sample, (samples,) uint64."""
    digests: np.ndarray
    """A hash of each sample's tokens, (samples,) uint64: equal samples can be found without reading them again."""
    content: str
    """A hash of what was read, before it was tokenised."""


Reader = Callable[[str, DataConfig, int, int], Prepared]
"""Reads data: what to call it in results, its settings, the most tokens of a sample, a seed for its weights."""


class Index:
    """Gathers length and digest of each sample."""

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
        """Lengths and digests: see `Prepared`."""
        return np.array(self._lengths, dtype=np.uint64), np.array(self._digests, dtype=np.uint64)


def write_once(target: Path, write: Callable[[Path], None]) -> None:
    """Makes the folder `target` by `write`, unless it is there and complete.

    `write` fills an unfinished folder, which is renamed once it is complete and removed if `write` raises. Only one
    process at a time makes a folder; another one waits and then finds it. Raises ConfigurationError if nothing can be
    written there, and whatever `write` raises.
    """
    if _is_whole(target):
        return
    try:
        with waiting_lock(target.parent / LOCKS / target.name, WAITING):
            if not _is_whole(target):
                shutil.rmtree(target, ignore_errors=True)  # cleaners of temporary folders take single files
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
    shutil.rmtree(place, ignore_errors=True)  # of a process that was killed
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
    """Whether everything is there that was written, as far as names, sizes and the index tell."""
    try:
        read_index(folder)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return True


@contextmanager
def samples_file(folder: Path) -> "Iterator[Callable[[RecordBatch], object]]":
    """The file of samples in `folder`; yields the function that writes some more of them (`record`)."""
    import pyarrow  # a tenth of a second

    lists = {"input_ids": pyarrow.list_(pyarrow.int32()), "counted": pyarrow.list_(pyarrow.bool_())}
    with pyarrow.ipc.new_stream(str(folder / SAMPLES_FILE), pyarrow.schema(lists)) as stream:
        yield stream.write_batch


def record(batch: TokenBatch) -> "RecordBatch":
    """The samples as `samples_file` takes them."""
    import pyarrow

    bounds = pyarrow.array(np.concatenate([[0], np.cumsum(batch.lengths)]), pyarrow.int32())
    columns = [pyarrow.ListArray.from_arrays(bounds, values) for values in (batch.input_ids, batch.counted)]
    return pyarrow.record_batch(columns, names=["input_ids", "counted"])


def prepared_folders(folder: Path) -> set[Path]:
    """The folders of tokenised samples in `folder`."""
    return {path.parent for path in folder.glob(f"*/{SAMPLES_FILE}")}


def remove_prepared(folder: Path, made: Iterable[Path]) -> None:
    """Remove what was `made` in `folder`, and that if nothing else is in it."""
    for one in made:
        shutil.rmtree(one, ignore_errors=True)
        (folder / LOCKS / one.name).unlink(missing_ok=True)
    for empty in (folder / LOCKS, folder):
        with suppress(OSError):
            empty.rmdir()


def write_index(folder: Path, summary: DataSummary, lengths: np.ndarray, digests: np.ndarray) -> None:
    """What is known of the samples in `folder`, which have been written, for `read_index`."""
    content = {"samples_bytes": (folder / SAMPLES_FILE).stat().st_size, "summary": asdict(summary)}
    (folder / SUMMARY_FILE).write_text(json.dumps(content, indent=2) + "\n")
    np.save(folder / INDEX_FILE, np.stack([lengths, digests]))


def read_index(folder: Path) -> tuple[DataSummary, np.ndarray, np.ndarray]:
    """Summary, lengths and digests: see `Prepared`.

    Raises OSError, ValueError, TypeError or KeyError where something is missing or was cut off.
    """
    content = json.loads((folder / SUMMARY_FILE).read_text())
    if (size := (folder / SAMPLES_FILE).stat().st_size) != content["samples_bytes"]:
        raise ValueError(f"{folder / SAMPLES_FILE} has {size} bytes instead of {content['samples_bytes']}")
    summary = DataSummary(**content["summary"])
    summary.skipped_rows = [SkippedRow(*row) for row in summary.skipped_rows]
    lengths, digests = np.load(folder / INDEX_FILE)
    return summary, lengths, digests


def load_samples(folder: str | Path) -> "Dataset":
    """The samples, memory-mapped: columns `input_ids` (list of int32) and `counted` (list of bool).

    Args:
        folder: that of a `Prepared`.
    """
    from datasets import Dataset  # more than half a second

    return Dataset.from_file(str(Path(folder) / SAMPLES_FILE))


def sample_lengths(samples: "Dataset") -> np.ndarray:
    """Tokens of each sample, (samples,) int64, without reading the tokens themselves."""
    from pyarrow import compute

    return compute.list_value_length(samples.data.column("input_ids")).to_numpy().astype(np.int64)


def counted_tokens(samples: "Dataset") -> np.ndarray:
    """Tokens of each sample on which loss is counted, (samples,) int64.

    The first token never is: nothing before it could predict it. One written batch after the other, so that memory
    stays bounded.
    """
    return np.concatenate([_marked_after_first(chunk) for chunk in samples.data.column("counted").chunks])


def _marked_after_first(lists: "ListArray") -> np.ndarray:
    """How many marks of each list are true, from the second one on."""
    marked_before = np.concatenate([[0], np.cumsum(lists.values.to_numpy(zero_copy_only=False))])
    bounds = lists.offsets.to_numpy()
    starts, ends = bounds[:-1], bounds[1:]
    return marked_before[ends] - marked_before[np.minimum(starts + 1, ends)]
