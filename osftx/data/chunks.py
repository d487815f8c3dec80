"""Splits the rows of all sources into chunks of one shape, which are the units of tokenisation."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from osftx.config.schema import DataConfig, TooLong, TrainOn
from osftx.data.formats import CONVERSATIONS, SHAPES, Shape, keys_of, parse, shape_of
from osftx.data.json_text import RowError
from osftx.data.sources import Row, Source
from osftx.errors import ConfigurationError
from osftx.utils.console import tell

CHUNK_ROWS, CHUNK_BYTES = 256, 1 << 18
"""Maximum rows of a chunk, and maximum bytes, which only its last row may exceed."""
SHAPE_ROWS = 100
"""Number of first rows of a source that are searched for a parsable row, whose keys determine the shape."""
CONVERTED = CONVERSATIONS.keys() - {Shape.messages}


class Chunk(NamedTuple):
    shape: Shape
    rows: list[Row]

    @property
    def size(self) -> int:
        """Number of bytes of the source that the chunk accounts for."""
        return sum(row.size for row in self.rows)


def chunks(entries: list[list[Source]], data: DataConfig) -> Iterator[Chunk]:
    """Yields the rows of every entry in chunks, only the first rows of each if there is a limit.

    Args:
        entries: the sources of each path.
        data: the settings of the data: `format`, `document_column`, `limit`, and settings that only some formats read.

    Raises:
        ConfigurationError: a source cannot be read, is empty, or does not have the required format.
    """
    told: set[Shape] = set()
    for entry in entries:
        left = data.limit
        for source in entry:
            rows = islice(source.rows(), left)
            shape, first = _first_rows(rows, data)
            if not first:
                raise ConfigurationError(
                    [f"{source.name}: is empty; it must have a row, such as an object with a list `messages`"]
                )
            _check_settings(source, shape, data)
            if shape in CONVERTED and shape not in told:
                keys = " and ".join(f"`{key}`" for key in shape.value)
                tell(f"{source.name}: rows have {keys}, and are read as conversations")
                told.add(shape)
            for chunk in _cut(chain(first, rows)):
                left = None if left is None else left - len(chunk)
                yield Chunk(shape, chunk)
            if left == 0:
                break


def _cut(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yields chunks of up to `CHUNK_ROWS` rows and about `CHUNK_BYTES` bytes."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += max(row.size, row.length)  # a compressed line is longer than its share of the file
        if len(chunk) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _first_rows(rows: Iterator[Row], data: DataConfig) -> tuple[Shape, list[Row]]:
    """Returns the shape of a source, and the rows that were read to determine it.

    Rows that cannot be parsed are reported later. Raises ConfigurationError if the rows have none of the allowed
    shapes.
    """
    read: list[Row] = []
    other = None
    for row in islice(rows, SHAPE_ROWS):
        read.append(row)
        try:
            content = parse(row.content, data.ignore_fields)
        except RowError:
            continue
        shape = shape_of(content, data.format, data.document_column)
        if shape is not None:
            return shape, read
        other = other or f"{row.place}: has the keys {sorted(content)}"
    if other is not None:
        shapes = (
            " and ".join(f"`{key}`" for key in keys_of(shape, data.document_column)) for shape in SHAPES[data.format]
        )
        raise ConfigurationError([f"{other}; it must have {', or '.join(shapes)} (data.format={data.format.value})"])
    return SHAPES[data.format][0], read


def _check_settings(source: Source, shape: Shape, data: DataConfig) -> None:
    """Raises ConfigurationError for settings that do not apply to this shape."""
    problems = []
    if data.block_size is not None and shape is not Shape.documents:
        problems.append(
            f"{source.name}: has {shape.name}, but block_size={data.block_size}, and blocks are cut from documents "
            "alone; set block_size=null"
        )
    if data.document_column != DataConfig().document_column and shape is not Shape.documents:
        problems.append(
            f"{source.name}: has {shape.name}, but document_column={data.document_column}, which is for documents "
            "alone; remove document_column"
        )
    if data.too_long is not TooLong.drop and shape is Shape.tokenized:
        problems.append(
            f"{source.name}: has {shape.name}, but too_long={data.too_long.value}, and token ids show no turns; remove "
            "too_long"
        )
    if data.train_on is not TrainOn.assistant and shape in (Shape.documents, Shape.tokenized):
        problems.append(
            f"{source.name}: has {shape.name}, but train_on={data.train_on.value}, which is for conversations alone; "
            "remove train_on"
        )
    if problems:
        raise ConfigurationError(problems)
