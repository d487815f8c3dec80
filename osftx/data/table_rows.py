"""Turns Arrow tables, of Parquet files or of `datasets`, into rows of the kind that JSON gives."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from osftx.data.json_text import RowError, parse_json

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch, Schema, Table

Read = Callable[[Any], Any]
"""A function that turns a value, as Arrow gives it, into the value that it stands for."""


class Unusable:
    """Stands for a row of a table that cannot be read; `reason` says why, without the place."""

    def __init__(self, reason: str):
        self.reason = reason


def rows_of(batch: "RecordBatch | Table", max_bytes: int) -> Iterator[tuple[Any, int]]:
    """Yields each row, as an object or as `Unusable`, and its number of bytes.

    A row that is longer than `max_bytes` is not read: it is measured as Arrow holds it. A null in a table counts as
    missing, because a column has the keys of all its objects; a value of Arrow's JSON type is what its text stands for,
    nulls included.
    """
    read = _reader_of_rows(batch.schema)
    for part in _parts(batch, max_bytes):
        length = part.nbytes // part.num_rows
        if length > max_bytes:
            yield Unusable(f"is longer than {max_bytes >> 20} MiB; split it into several rows"), length
            continue
        for row in part.to_pylist():
            yield _usable(read, row), length


def _parts(batch: "RecordBatch | Table", max_bytes: int) -> Iterable[Any]:
    """Returns the batch if all of its rows together are short enough, else each row as a batch."""
    if batch.num_rows == 0:
        return ()
    if batch.nbytes <= max_bytes:
        return (batch,)
    return (batch.slice(place, 1) for place in range(batch.num_rows))


def _usable(read: Read, row: Any) -> Any:
    try:
        return read(row)
    except RowError as error:
        return Unusable(str(error))


def _reader_of_rows(schema: "Schema") -> Read:
    return _of_object({field.name: _reader(field.type) for field in schema})


def _reader(of: "DataType") -> Read | None:
    """Returns the function for values of an Arrow type that are not null; None if they stand for themselves."""
    import pyarrow
    from pyarrow import types

    if isinstance(of, pyarrow.JsonType):
        return parse_json
    if types.is_struct(of):
        return _of_object({field.name: _reader(field.type) for field in of})
    if types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        inner = _reader(of.value_type)
        if inner is not None:
            return lambda values: [None if value is None else inner(value) for value in values]
    return None


def _of_object(readers: dict[str, Read | None]) -> Read:
    def read(values: dict[str, Any]) -> dict[str, Any]:
        made = {}
        for key, value in values.items():
            if value is not None:
                reader = readers[key]
                made[key] = value if reader is None else reader(value)
        return made

    return read
