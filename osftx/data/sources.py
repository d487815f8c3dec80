"""Sources of training data: files, folders saved by `datasets`, data sets on the Hugging Face Hub.

A source yields rows and holds only a bounded part of the file in memory, except that a JSON list is read as a whole.
Lines of JSONL are yielded unparsed; they are parsed where they are tokenised.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from glob import glob
from os.path import exists, expanduser, isdir, isfile, join  # False without permission; the methods of Path raise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from osftx.config.schema import DataConfig
from osftx.data.json_text import with_single_keys
from osftx.data.table_rows import rows_of
from osftx.errors import ConfigurationError
from osftx.utils.manifest import digest, files_in

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import RecordBatch, Table

MAX_ROW_BYTES = 1 << 25
"""Maximum size of a line (32 MiB); longer lines are rejected, so that a file without line ends is never in memory as a
whole."""
ROWS_AT_A_TIME = 100
"""Number of rows that are read at a time from Parquet and from `datasets`."""
BATCH_BYTES = 1 << 30
"""Maximum size of the rows of Parquet that are read at a time, unless it is one row. A value that repeats is in the
file once, so each row may have the size of all."""
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
FILE_SUFFIXES = (".jsonl", ".json", ".gz", ".parquet")
UNREAD_SUFFIXES = (".json.gz", ".parquet.gz")
DEFAULT_SPLIT = "train"
SAVED_FILE, SAVED_SPLITS_FILE = "state.json", "dataset_dict.json"
"""Files by which a folder saved by `datasets` is recognised: without splits the first, with splits the second."""
REMEDY = "give a JSONL, JSON or Parquet file, a glob of them, a folder saved by `datasets`, or a name on the Hub"


class Row(NamedTuple):
    place: str
    """Source, and line or row number, counted from 1."""
    content: Any
    """The row: JSON as bytes, still to be parsed and checked, the row of a table as an object, or `Unusable`."""
    size: int
    """Number of bytes of the source that the row accounts for."""
    length: int = 0
    """Number of bytes of the row itself, which a compressed source may keep in fewer."""


@dataclass(frozen=True)
class Source:
    name: str
    """Name of the source in messages."""
    size: int
    """Size in bytes; roughly the sum of the sizes of its rows."""
    fingerprint: Callable[[], str]
    """Function that returns a hash of the content; may raise ConfigurationError."""
    rows: Callable[[], Iterator[Row]]
    """Function that yields every row that is not blank; may raise ConfigurationError, also after some rows."""


def check_origin(data: DataConfig) -> None:
    """Raises ConfigurationError for a `split` or a `revision` that applies to no path of the data."""
    paths = data.path if isinstance(data.path, list) else [data.path]
    on_hub = any(_is_on_hub(path) for path in paths)
    has_splits = on_hub or any(isfile(join(expanduser(path), SAVED_SPLITS_FILE)) for path in paths)
    name = ", ".join(expanduser(path) for path in paths)
    problems = []
    if data.split is not None and not has_splits:
        problems.append(
            f"{name}: has no splits, but split={data.split}, which is for a name on the Hugging Face Hub or a folder "
            "saved with splits; remove split"
        )
    if data.revision is not None and not on_hub:
        problems.append(
            f"{name}: is no name on the Hugging Face Hub, but has the revision {data.revision}; remove revision"
        )
    if problems:
        raise ConfigurationError(problems)


def find_sources(entry: str, split: str | None, revision: str | None) -> list[Source]:
    """Returns the sources that `data.path`, or one entry of it, stands for; the files of a glob are sorted by name.

    Args:
        entry: a file, a glob, a folder saved by `datasets`, or a name on the Hub; `~` is the home folder.
        split: the split of a folder or Hub name that has several; None stands for train. Other sources ignore it.
        revision: branch, tag or commit on the Hub. Other sources ignore it.

    Raises:
        ConfigurationError: the entry does not exist or cannot be read.
    """
    name = expanduser(entry)
    path = Path(name)
    if _is_on_hub(entry):
        return [_on_hub(entry, split or DEFAULT_SPLIT, revision)]
    if isdir(name):
        return [_saved(path, split or DEFAULT_SPLIT)]
    if not exists(name) and any(sign in name for sign in "*?["):
        found = [Path(match) for match in sorted(glob(name, recursive=True)) if isfile(match)]
        if not found:
            raise ConfigurationError([f"{name}: matches no file; {REMEDY}"])
        return [_file(match) for match in found]
    return [_file(path)]


def _is_on_hub(entry: str) -> bool:
    return (
        HUB_NAME.fullmatch(entry) is not None
        and not entry.lower().endswith(FILE_SUFFIXES)
        and not exists(expanduser(entry))
    )


def _file(path: Path) -> Source:
    if path.name.lower().endswith(UNREAD_SUFFIXES):
        raise ConfigurationError([f"{path}: only JSONL is read compressed; unpack it first: gunzip '{path}'"])
    read = {".json": _json_rows, ".parquet": _parquet_rows}.get(path.suffix.lower(), _lines)
    try:
        size = path.stat().st_size
        if not path.is_file():  # the file is read twice, which a pipe cannot be
            raise _unreadable(str(path), "not a regular file")
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(str(path), error.strerror) from error
    return Source(str(path), size, partial(digest, path), partial(read, path))


def _lines(path: Path) -> Iterator[Row]:
    """Yields the lines of a JSONL file, which may be compressed with gzip."""
    number = place = 0
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw as file:
            while line := file.readline(MAX_ROW_BYTES + 1):
                number += 1
                if number == 1 and line.startswith(UTF16_MARKS):
                    raise ConfigurationError([f"{path}:1: is UTF-16 text; save the file as UTF-8"])
                rest = line
                while len(rest) > MAX_ROW_BYTES and not rest.endswith(b"\n"):  # the parser rejects the line
                    rest = file.readline(MAX_ROW_BYTES + 1)
                if line.strip():
                    before, place = place, raw.tell()
                    yield Row(f"{path}:{number}", line, place - before, len(line))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            [f"{path}:{number + 1}: cannot be read ({reason}); the file is damaged, or is no such file: copy it"]
        ) from error


def _json_rows(path: Path) -> Iterator[Row]:
    """Yields the objects of a JSON list, which is read as a whole."""
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=with_single_keys)
    except OSError as error:
        raise _unreadable(str(path), error.strerror) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            [f"{path}: is not UTF-8 text ({error.reason} at byte {error.start + 1}); save the file as UTF-8"]
        ) from error
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            [
                f"{path}:{error.lineno}: is not JSON ({error.msg} at column {error.colno}); the file must be one list "
                "of objects (a file with one object on each line is JSONL: call it .jsonl)"
            ]
        ) from error
    except (ValueError, RecursionError) as error:  # a number with thousands of digits
        raise ConfigurationError([f"{path}: is not JSON that can be read ({error}); correct it"]) from error
    if not isinstance(rows, list):
        raise ConfigurationError([f"{path}: is not a JSON list; the file must be one list of objects"])
    size = path.stat().st_size // max(len(rows), 1)
    for number, row in enumerate(rows, 1):
        line = json.dumps(row).encode()  # is checked like a line of JSONL
        yield Row(f"{path}: row {number}", line, size, len(line))


def _parquet_rows(path: Path) -> Iterator[Row]:
    from pyarrow.parquet import ParquetFile

    def batches() -> "Iterator[tuple[RecordBatch, int]]":
        with ParquetFile(path) as file:
            share = path.stat().st_size // max(file.metadata.num_rows, 1)
            for group in range(file.num_row_groups):
                held = file.metadata.row_group(group)
                at_a_time = max(1, min(ROWS_AT_A_TIME, BATCH_BYTES // max(held.total_byte_size, 1)))
                for batch in file.iter_batches(at_a_time, [group]):
                    yield batch, share

    return _table_rows(str(path), batches())


def _table_rows(name: str, batches: "Iterable[tuple[RecordBatch | Table, int]]") -> Iterator[Row]:
    """Yields the rows of each batch, with the number of bytes of the source that each row accounts for."""
    from pyarrow import ArrowException

    number = 0
    try:
        for batch, share in batches:
            for row, length in rows_of(batch, MAX_ROW_BYTES):
                number += 1
                yield Row(f"{name}: row {number}", row, share, length)
    except (OSError, ArrowException, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ConfigurationError(
            [f"{name}: row {number + 1}: cannot be read ({reason}); the file is damaged: write it again"]
        ) from error


def _saved(path: Path, split: str) -> Source:
    """Returns the source for a folder that `save_to_disk` of `datasets` has written."""
    if not any(isfile(path / name) for name in (SAVED_FILE, SAVED_SPLITS_FILE)):
        raise ConfigurationError(
            [f"{path}: cannot be read (Is a directory) and was not saved by `datasets`; {REMEDY}, or '{path}/*'"]
        )
    from datasets import DatasetDict, load_from_disk  # the import takes more than half a second

    try:
        loaded = load_from_disk(str(path))
    except IndexError as error:  # `datasets` raises this if there is no row at all
        raise ConfigurationError([f"{path}: is empty; it must have a row"]) from error
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError([f"{path}: cannot be read ({_line_of(error)}); save it again"]) from error
    folder = path
    if isinstance(loaded, DatasetDict):
        if split not in loaded:
            raise ConfigurationError([f"{path}: has no split {split}; set split to one of {', '.join(loaded)}"])
        folder, loaded = path / split, loaded[split]
    return _data_set(str(path), loaded, partial(_of_folder, folder))


def _of_folder(folder: Path) -> str:
    return _hash([f"{name} {digest(folder / name)}" for name in files_in(folder)])


def _on_hub(name: str, split: str, revision: str | None) -> Source:
    """Returns the source for a data set on the Hub, or in its local cache."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError

    try:
        loaded = load_dataset(name, split=split, revision=revision)
    except (OSError, ValueError, DatasetsError, HTTPError) as error:
        place = f"{name} (split {split}, revision {revision})" if revision else f"{name} (split {split})"
        raise ConfigurationError(
            [
                f"{place}: no such file or folder, and the Hugging Face Hub or its local cache did not give it "
                f"({type(error).__name__}: {_line_of(error)}); check name, split and network, or {REMEDY}"
            ]
        ) from error
    return _data_set(name, loaded, lambda: _hash([loaded._fingerprint]))


def _data_set(name: str, loaded: "Dataset", fingerprint: Callable[[], str]) -> Source:
    size = loaded.data.nbytes
    share = size // max(loaded.num_rows, 1)

    def rows() -> Iterator[Row]:
        return _table_rows(name, ((table, share) for table in loaded.with_format("arrow").iter(ROWS_AT_A_TIME)))

    return Source(name, size, fingerprint, rows)


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _line_of(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _unreadable(name: str, reason: str | None) -> ConfigurationError:
    return ConfigurationError([f"{name}: cannot be read ({reason}); {REMEDY}"])
