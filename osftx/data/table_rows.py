"""Turns Arrow tables, of Parquet files or of `datasets`, into rows of the kind that JSON gives."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from osftx.data.json_text import RowError, parse_json, with_single_keys

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
    nulls included, and a map is the object of its keys, nulls included.
    """
    read = _reader_of_rows(batch.schema)
    for part in _parts(batch, max_bytes):
        length = part.nbytes // part.num_rows
        if length > max_bytes:
            yield Unusable(f"is longer than {max_bytes >> 20} MiB; split it into several rows"), length
            continue
        for row in _values(part):
            yield _usable(read, row), length


def _parts(batch: "RecordBatch | Table", max_bytes: int) -> Iterable[Any]:
    """Returns the batch if all of its rows together are short enough, else each row as a batch."""
    if batch.num_rows == 0:
        return ()
    if batch.nbytes <= max_bytes:
        return (batch,)
    return (batch.slice(place, 1) for place in range(batch.num_rows))


def _values(part: Any) -> list[Any]:
    """Returns the rows as Python has them; one that Python has no value for, such as a date after 9999, is unusable."""
    from pyarrow import ArrowException

    try:
        rows: list[Any] = part.to_pylist()
    except (ArrowException, UnicodeDecodeError):  # the file is damaged
        raise
    except (ValueError, OverflowError, LookupError) as error:
        if part.num_rows > 1:
            return [row for place in range(part.num_rows) for row in _values(part.slice(place, 1))]
        return [Unusable(f"has a value that cannot be read ({error}); correct it, or write it as text")]
    return rows


def _usable(read: Read, row: Any) -> Any:
    try:
        return row if isinstance(row, Unusable) else read(row)
    except RowError as error:
        return Unusable(str(error))


def _reader_of_rows(schema: "Schema") -> Read:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        return partial(_refuse, f"has the column {twice[0]!r} twice; keep one of them")
    return _of_object({field.name: _reader(field.type) for field in schema})


def _refuse(reason: str, _: Any) -> NoReturn:
    raise RowError(reason)


def _reader(of: "DataType") -> Read | None:
    """Returns the function for values of an Arrow type that are not null; None if they stand for themselves."""
    import pyarrow
    from pyarrow import types

    if isinstance(of, pyarrow.JsonType):
        return parse_json
    if types.is_struct(of):
        return _of_object({field.name: _reader(field.type) for field in of})
    if types.is_map(of):
        return _of_map(_reader(of.item_type))
    if types.is_dictionary(of) or types.is_run_end_encoded(of):  # only stored in another way
        return _reader(of.value_type)
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return _of_list(_reader(of.value_type)) if any(is_one(of) for is_one in lists) else None


def _of_list(inner: Read | None) -> Read | None:
    if inner is None:
        return None
    return lambda values: [None if value is None else inner(value) for value in values]


def _of_map(inner: Read | None) -> Read:
    """Returns the function for the pairs of a map; those of one whose keys are no text are left as they are."""

    def read(pairs: list[tuple[Any, Any]]) -> Any:
        if not all(isinstance(key, str) for key, _ in pairs):
            return pairs
        return with_single_keys(
            [(key, value if value is None or inner is None else inner(value)) for key, value in pairs]
        )

    return read


def _of_object(readers: dict[str, Read | None]) -> Read:
    def read(values: dict[str, Any]) -> dict[str, Any]:
        made = {}
        for key, value in values.items():
            if value is not None:
                reader = readers[key]
                made[key] = value if reader is None else reader(value)
        return made

    return read
