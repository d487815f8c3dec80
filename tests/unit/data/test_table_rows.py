"""Rows of Arrow tables: as JSON would give them, and no longer than JSON may be."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, Features, Json, List, Value
from pyarrow import parquet

from osftx.config.schema import DataConfig, OnBadRow
from osftx.data.chat.tokenizer import ChatTokenizer
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
