"""Rows of Arrow tables: as JSON would give them, and no longer than JSON may be."""

import datetime
import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, Features, Json, List, Value
from pyarrow import parquet
from refusals import refused

from osftx.config.schema import DataConfig, OnBadRow, TrainOn
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.formats import Shape, conversation_of
from osftx.data.json_text import RowError
from osftx.data.prepare import prepare
from osftx.data.sources import find_sources
from osftx.data.table_rows import Unusable, rows_of

ARGUMENTS = [{"x": 0, "y": "1"}, {"text": ["hi", 2, None]}, {"text": {"k": None}}]


def row(arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    caller = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"messages": [{"role": "user", "content": "do"}, caller]}


def contents(path: Path) -> list[Any]:
    (source,) = find_sources(str(path), None, None)
    return [row.content for row in source.rows()]


def saved(data: Dataset, tmp_path: Path, kind: str) -> Path:
    path = tmp_path / kind
    if kind == "saved":
        data.save_to_disk(path)
    else:
        data.to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["saved", "rows.parquet"])
def test_the_json_type_of_datasets_is_read_as_what_it_stands_for(tmp_path: Path, kind: str) -> None:
    data = Dataset.from_list([row(arguments) for arguments in ARGUMENTS], on_mixed_types="use_json")
    assert contents(saved(data, tmp_path, kind)) == [row(arguments) for arguments in ARGUMENTS]


@pytest.mark.parametrize("kind", ["saved", "rows.parquet"])
def test_json_within_a_column_of_objects(tmp_path: Path, kind: str) -> None:
    turn = {"role": Value("string"), "content": Value("string"), "extra": Json()}
    data = Dataset.from_list(
        [{"messages": [{"role": "user", "content": "x", "extra": {"a": None}}, {"role": "tool", "content": "y"}]}],
        features=Features({"messages": List(turn)}),
    )
    assert contents(saved(data, tmp_path, kind)) == [
        {"messages": [{"role": "user", "content": "x", "extra": {"a": None}}, {"role": "tool", "content": "y"}]}
    ]


def test_keys_that_a_table_fills_up_with_nulls_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_pylist([row({"x": 0}), row({"y": [None, {"a": 1}, {"b": 2}]})]), path)
    expected = [row({"x": 0}), row({"y": [None, {"a": 1}, {"b": 2}]})]
    for one in expected:
        del one["messages"][1]["content"]
    assert contents(path) == expected


@pytest.mark.parametrize("kind", ["saved", "rows.parquet"])
@pytest.mark.parametrize("text", ['{"a": ', '{"a": 1, "a": 2}', "NaN", "[" * 99_999])
def test_json_that_cannot_be_read_is_a_row_that_cannot_be_used(tmp_path: Path, kind: str, text: str) -> None:
    table = pa.table({"document": pa.array(["x", "y"]), "more": pa.array(["{}", text]).cast(pa.json_())})
    path = tmp_path / "rows.parquet"
    parquet.write_table(table, path)
    good, wrong = contents(path)
    assert good == {"document": "x", "more": {}}
    assert isinstance(wrong, Unusable)


@pytest.mark.parametrize("kind", ["saved", "rows.parquet"])
def test_a_row_is_as_long_as_a_line_may_be(
    chatml: ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for module in ("sources", "formats"):
        monkeypatch.setattr(sys.modules[f"osftx.data.{module}"], "MAX_ROW_BYTES", 1 << 20)
    data = Dataset.from_list([{"document": "x" * length} for length in (9, (1 << 20) + 1, 9)])
    path = saved(data, tmp_path, kind)
    settings = DataConfig(path=str(path), on_bad_row=OnBadRow.skip)
    summary = prepare(settings, chatml, 100, None).summary
    assert (summary.samples, summary.skipped) == (2, 1)
    ((place, reason),) = summary.skipped_rows
    assert place == f"{path}: row 2"
    assert reason == "is longer than 1 MiB; split it into several rows"


def test_a_row_that_is_too_long_is_measured_before_it_is_read() -> None:
    class Long:
        schema = pa.schema([("a", pa.string())])
        num_rows = 1
        nbytes = 2000

        def slice(self, *_: int) -> "Long":
            return self

        def to_pylist(self) -> None:
            raise AssertionError

    ((row, length),) = rows_of(Long(), 1000)  # type: ignore[arg-type]
    assert isinstance(row, Unusable)
    assert length == 2000


def test_a_value_that_repeats_is_not_unpacked_for_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = sys.modules["osftx.data.sources"]
    monkeypatch.setattr(sources, "BATCH_BYTES", 5 << 20)
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"document": ["x" * (1 << 20)] * 50}), path)
    assert path.stat().st_size < 1 << 21
    read: list[int] = []

    def watched(batch: pa.RecordBatch, _: int) -> Iterator[Any]:
        read.append(batch.nbytes)
        return iter(())

    monkeypatch.setattr(sources, "rows_of", watched)
    contents(path)
    assert sum(read) > 50 << 20
    assert max(read) < 6 << 20


def table_of(arguments: pa.Array) -> pa.Table:
    """One row for each of the arguments of a call."""
    one_each = pa.array(range(len(arguments) + 1), pa.int32())
    function = pa.StructArray.from_arrays([pa.repeat("f", len(arguments)), arguments], names=["name", "arguments"])
    calls = pa.ListArray.from_arrays(one_each, pa.StructArray.from_arrays([function], names=["function"]))
    roles = pa.repeat("assistant", len(arguments))
    turn = pa.StructArray.from_arrays([roles, calls], names=["role", "tool_calls"])
    return pa.table({"messages": pa.ListArray.from_arrays(one_each, turn)})


def read(arguments: pa.Array) -> list[Any]:
    """The arguments of the calls of each row; the reason of one that is unusable."""
    found = []
    for one, _ in rows_of(table_of(arguments), 1 << 20):
        if isinstance(one, Unusable):
            found.append(one.reason)
        else:
            found.append(one["messages"][0]["tool_calls"][0]["function"].get("arguments"))
    return found


def test_a_map_is_the_object_of_its_keys() -> None:
    of_lists = pa.map_(pa.string(), pa.list_(pa.struct([("a", pa.int8()), ("b", pa.int8())])))
    assert read(pa.array([[("x", [{"a": 1}]), ("y", None)], []], of_lists)) == [{"x": [{"a": 1}], "y": None}, {}]
    encoded = pa.map_(pa.dictionary(pa.int8(), pa.large_string()), pa.string())
    assert read(pa.array([[("x", "1")]], pa.map_(pa.string(), pa.string())).cast(encoded)) == [{"x": "1"}]
    twice, good = read(pa.array([[("x", "1"), ("x", "2")], [("x", "1")]], pa.map_(pa.string(), pa.string())))
    assert twice == "has the key 'x' twice in one object; keep one of them"
    assert good == {"x": "1"}


@pytest.mark.parametrize(
    "kind", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda of: pa.list_(of, 2)]
)
def test_every_kind_of_list_is_read_alike(kind: Any) -> None:
    pairs = kind(pa.map_(pa.string(), pa.string()))
    assert read(pa.array([[[("x", "1")], None]], pairs)) == [[{"x": "1"}, None]]
    objects = kind(pa.struct([("a", pa.int8()), ("b", pa.int8())]))
    assert read(pa.array([[{"a": 1}, {"b": 2}]], objects)) == [[{"a": 1}, {"b": 2}]]


NOT_JSON = [
    (datetime.date(2024, 1, 2), "date"),
    (datetime.datetime(2024, 1, 2), "datetime"),
    (datetime.time(1), "time"),
    (datetime.timedelta(1), "timedelta"),
    (Decimal("1.5"), "Decimal"),
    (b"x", "bytes"),
    (math.nan, "nan"),
    (math.inf, "inf"),
]


@pytest.mark.parametrize(("value", "kind"), NOT_JSON)
def test_what_json_does_not_have_makes_the_row_unusable(value: Any, kind: str) -> None:
    (wrong, _), (good, _) = rows_of(table_of(pa.array([{"x": [value]}, {"x": []}])), 1 << 20)
    with pytest.raises(RowError) as caught:
        conversation_of(Shape.messages, wrong, TrainOn.assistant)
    what = kind if isinstance(value, float) else f"a {kind}"
    where = "`tool_calls[0].function.arguments.x[0]` of message 1 (assistant)"
    assert str(caught.value).startswith(f"has {what} in {where}, which JSON does not have; write ")
    (message,) = conversation_of(Shape.messages, good, TrainOn.assistant).messages
    assert message["tool_calls"] == [{"function": {"name": "f", "arguments": {"x": []}}}]


@pytest.mark.parametrize(("value", "kind"), NOT_JSON)
def test_columns_that_are_not_read_may_hold_anything(
    chatml: ChatTokenizer, tmp_path: Path, value: Any, kind: str
) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"document": ["x"], "when": [value], "more": [{kind: [value]}]}), path)
    assert prepare(DataConfig(path=str(path)), chatml, 100, None).summary.samples == 1


def test_json_does_not_have_it_in_tools_either(chatml: ChatTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "One."}]
    tool = {"name": "f", "parameters": {"properties": {"x": {"default": Decimal(1)}}}}
    parquet.write_table(pa.Table.from_pylist([{"messages": turns, "tools": [tool]}]), path)
    (problem,) = refused(chatml, tmp_path / "kept", str(path))
    assert "row 1: has a Decimal in `tools[0].parameters.properties.x.default`, which JSON does not have" in problem


def test_a_value_that_python_cannot_hold_makes_its_row_unusable() -> None:
    table = pa.table({"document": ["a", "b"], "when": pa.array([0, 10**15], pa.timestamp("ms"))})
    (good, _), (wrong, _) = rows_of(table, 1 << 20)
    assert good["document"] == "a"
    assert wrong.reason == (
        "has a value that cannot be read (date value out of range); correct it, or write it as text"
    )


def test_a_column_or_a_key_that_is_there_twice_makes_rows_unusable() -> None:
    ((column, _),) = rows_of(pa.table([["a"], ["b"]], names=["document", "document"]), 1 << 20)
    assert column.reason == "has the column 'document' twice; keep one of them"
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    ((key, _),) = rows_of(pa.table({"messages": twice}), 1 << 20)
    assert "duplicate field names" in key.reason
