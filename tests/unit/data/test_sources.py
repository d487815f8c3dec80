"""Where rows come from: files, globs, folders of `datasets`, the Hub; and what is said of those that are wrong."""

import gzip
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetNotFoundError
from refusals import GOOD, refused

from osftx.config.schema import DataConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.chunks import CHUNK_BYTES, chunks
from osftx.data.formats import parse
from osftx.data.sources import MAX_ROW_BYTES, check_origin, find_sources
from osftx.errors import ConfigurationError

ROW = {"messages": GOOD}
LINE = json.dumps(ROW) + "\n"


def rows(path: object, split: str | None = None, revision: str | None = None) -> list[tuple[str, Any]]:
    """Place and content of every row."""
    sources = find_sources(str(path), split, revision)
    return [(row.place, parse(row.content)) for source in sources for row in source.rows()]


def contents(path: object, split: str | None = None) -> list[Any]:
    return [content for _, content in rows(path, split)]


def test_lines_and_their_numbers(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('\ufeff{"n": 1}\n\n{"n": "東京 😀"}\r\n   \n{"n": 5}', encoding="utf-8")
    assert rows(data) == [(f"{data}:1", {"n": 1}), (f"{data}:3", {"n": "東京 😀"}), (f"{data}:5", {"n": 5})]


@pytest.mark.parametrize(
    "name",
    ["data.jsonl", "data.jsonl.gz", "data.json", "data.parquet", "DATA.JSONL.GZ", "DATA.JSON", "DATA.PARQUET", "saved"],
)
def test_every_kind_of_source_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    expected = [{"n": number, "messages": GOOD} for number in range(250)]
    path = tmp_path / name
    lines = "".join(json.dumps(row) + "\n" for row in expected)
    write: dict[str, Callable[[], object]] = {
        "data.jsonl": lambda: path.write_text(lines),
        "data.jsonl.gz": lambda: path.write_bytes(gzip.compress(lines.encode())),
        "data.json": lambda: path.write_text(json.dumps(expected, indent=1)),
        "data.parquet": lambda: Dataset.from_list(expected).to_parquet(path),
        "saved": lambda: Dataset.from_list(expected).save_to_disk(path),
    }
    write[name.lower()]()
    assert contents(path) == expected
    (source,) = find_sources(str(path), "train", None)
    assert sum(row.size for row in source.rows()) == pytest.approx(source.size, rel=0.3)
    assert source.fingerprint() == find_sources(str(path), "train", None)[0].fingerprint()


def test_a_split_of_a_saved_folder(tmp_path: Path) -> None:
    one, other = Dataset.from_list([{"n": 1}]), Dataset.from_list([{"n": 2}])
    DatasetDict(train=one, test=other).save_to_disk(tmp_path / "saved")
    assert contents(tmp_path / "saved", "test") == [{"n": 2}]
    assert contents(tmp_path / "saved") == [{"n": 1}]
    (train,), (test,) = (find_sources(str(tmp_path / "saved"), split, None) for split in ("train", "test"))
    assert train.fingerprint() != test.fingerprint()
    with pytest.raises(ConfigurationError, match="saved: has no split valid; set split to one of train, test"):
        rows(tmp_path / "saved", "valid")


def test_keys_that_a_table_gives_to_every_object_are_not_there(tmp_path: Path) -> None:
    expected = [
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "calls": [{"arguments": {"a": 1}}]}]},
        {"messages": [{"role": "assistant", "calls": [{"arguments": {"b": "2"}}]}]},
    ]
    Dataset.from_list(expected).to_parquet(tmp_path / "data.parquet")
    assert contents(tmp_path / "data.parquet") == expected


def test_a_glob_gives_its_files_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "deeper/c.jsonl", "d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"name": name}) + "\n")
    assert contents(tmp_path / "*.jsonl") == [{"name": "a.jsonl"}, {"name": "b.jsonl"}]
    assert [row["name"] for row in contents(tmp_path / "**" / "*.jsonl")] == ["a.jsonl", "b.jsonl", "deeper/c.jsonl"]
    (tmp_path / "what[1]?.jsonl").write_text('{"name": "itself"}')
    assert contents(tmp_path / "what[1]?.jsonl") == [{"name": "itself"}], "a file of that very name goes before"


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.jsonl").write_text('{"n": 1}')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rows("~/data.jsonl") == [(f"{tmp_path}/data.jsonl:1", {"n": 1})]


def test_a_name_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, split: str, revision: str | None) -> Dataset:
        asked.append((name, split, revision))
        return Dataset.from_list([{"n": 1}])

    monkeypatch.setattr("datasets.load_dataset", load)
    assert rows("some/facts", "test", "v2") == [("some/facts: row 1", {"n": 1})]
    assert rows("some/facts") == [("some/facts: row 1", {"n": 1})]
    assert asked == [("some/facts", "test", "v2"), ("some/facts", "train", None)]


@pytest.mark.parametrize(
    "error", [ConnectionError("no network\nat all"), DatasetNotFoundError("no network"), ValueError("no network")]
)
def test_a_hub_that_gives_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(ConfigurationError) as caught:
        rows("some/facts", revision="v2")
    (problem,) = caught.value.problems
    assert problem.startswith("some/facts (split train, revision v2): no such file or folder, and the Hugging Face Hub")
    assert f"({type(error).__name__}: no network); check name, split and network, or give a JSONL" in problem


def parquet(path: Path, *values: object) -> None:
    Dataset.from_list([{"text": value} for value in values]).to_parquet(path)


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("none.jsonl", lambda path: None, "{path}: cannot be read (No such file or directory); give a JSONL"),
    "missing without a suffix": ("a b", lambda path: None, "{path}: cannot be read (No such file or directory); give"),
    "a folder": ("folder", lambda path: path.mkdir(), "{path}: cannot be read (Is a directory) and was not saved by"),
    "below a file": (
        "file/x.jsonl",
        lambda path: path.parent.write_text(LINE),
        "{path}: cannot be read (Not a directory); give a JSONL",
    ),
    "no file of a glob": ("*.jsonl", lambda path: None, "{path}: matches no file; give a JSONL"),
    "a broken link": ("a.jsonl", lambda path: path.symlink_to("none"), "{path}: cannot be read (No such file"),
    "empty": ("a.jsonl", lambda path: path.touch(), "{path}: is empty; it must have a row, such as an object with"),
    "blank lines": ("a.jsonl", lambda path: path.write_text(" \n\r\n\t\n"), "{path}: is empty; it must have a row"),
    "a binary file": ("a.jsonl", lambda path: path.write_bytes(bytes(range(256))), "{path}:1: is not JSON"),
    "an image": ("a.jsonl", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0"), "{path}:1: is not UTF-8 text"),
    "UTF-16": ("a.jsonl", lambda path: path.write_text(LINE, "utf-16"), "{path}:1: is UTF-16 text; save the file as"),
    "Latin-1": (
        "a.jsonl",
        lambda path: path.write_text(LINE + LINE.replace("One", "Größe"), "latin-1"),
        "{path}:2: is not UTF-8 text",
    ),
    "a line that never ends": (
        "a.jsonl",
        lambda path: path.write_bytes(LINE.encode() + b"x" * (50 << 20)),
        "{path}:2: is longer than 32 MiB; split it into several rows",
    ),
    "gzip that is cut off": (
        "a.jsonl.gz",
        lambda path: path.write_bytes(gzip.compress(LINE.encode() * 99)[:-9]),
        "cannot be read (Compressed file ended before the end-of-stream marker was reached); the file is damaged",
    ),
    "compressed JSON": ("a.json.gz", lambda path: path.touch(), "{path}: only JSONL is read compressed; unpack it"),
    "compressed Parquet": ("a.Parquet.GZ", lambda path: path.touch(), "{path}: only JSONL is read compressed; unpack"),
    "gzip that is none": ("a.jsonl.gz", lambda path: path.write_text(LINE), "{path}:1: cannot be read (Not a gzipped"),
    "gzip that is damaged": (
        "a.jsonl.gz",
        lambda path: path.write_bytes(gzip.compress(LINE.encode())[:10] + b"\xff" * 90),
        "cannot be read (Error -3 while decompressing",
    ),
    "JSON that is no list": ("a.json", lambda path: path.write_text(LINE), "{path}: is not a JSON list; the file must"),
    "JSON of lines": ("a.json", lambda path: path.write_text(LINE * 2), "{path}:2: is not JSON (Extra data at column"),
    "JSON that is cut off": ("a.json", lambda path: path.write_text(f"[\n{LINE},"), "{path}:3: is not JSON"),
    "JSON that is not UTF-8": ("a.json", lambda path: path.write_bytes(b'["\xe9"]'), "{path}: is not UTF-8 text"),
    "JSON that is nested": ("a.json", lambda path: path.write_text("[" * 99999), "{path}: is not JSON that can be"),
    "JSON with a key twice": (
        "a.json",
        lambda path: path.write_text('[{"document": "x", "document": "y"}]'),
        "{path}: is not JSON that can be read (has the key 'document' twice in one object; keep one of them); correct",
    ),
    "an empty JSON list": ("a.json", lambda path: path.write_text("[]"), "{path}: is empty; it must have a row"),
    "JSON of numbers": ("a.json", lambda path: path.write_text("[1]"), "{path}: row 1: is a JSON number; each line"),
    "Parquet that is none": ("a.parquet", lambda path: path.write_text(LINE * 9), "{path}: row 1: cannot be read ("),
    "an empty Parquet file": ("a.parquet", lambda path: path.touch(), "{path}: row 1: cannot be read (Parquet file"),
    "Parquet that is damaged": (
        "a.parquet",
        lambda path: (parquet(path, *"abcdefgh"), path.write_bytes(path.read_bytes().replace(b"abcd", b"\xff" * 4))),
        "{path}: row 1",
    ),
    "Parquet without the columns": (
        "a.parquet",
        lambda path: parquet(path, "x", "y"),
        "{path}: row 1: has the keys ['text']; it must have `messages`, or `input_ids` and `labels`, or `conv",
    ),
    "saved with no row": (
        "saved",
        lambda path: Dataset.from_list([ROW]).select([]).save_to_disk(path),
        "{path}: is empty; it must have a row",
    ),
    "a folder that is damaged": (
        "saved",
        lambda path: (Dataset.from_list([ROW]).save_to_disk(path), (path / "state.json").write_text("{")),
        "{path}: cannot be read (",
    ),
    "a folder without its data": (
        "saved",
        lambda path: (Dataset.from_list([ROW]).save_to_disk(path), next(path.glob("*.arrow")).unlink()),
        "{path}: cannot be read (",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_source_that_is_broken(chatml: ChatTokenizer, tmp_path: Path, case: str) -> None:
    name, make, says = BROKEN[case]
    path = tmp_path / "data" / name
    (tmp_path / "data").mkdir()
    make(path)
    problem = refused(chatml, tmp_path / "prepared", str(path))[0]
    assert says.format(path=path) in problem
    assert str(path) in problem


def test_a_pipe_cannot_be_read_twice(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"/dev/null: cannot be read \(not a regular file\); give a JSONL"):
        rows("/dev/null")


def test_split_and_revision_that_no_path_has_are_refused(tmp_path: Path) -> None:
    file, whole, parts = (str(tmp_path / name) for name in ("a.jsonl", "whole", "parts"))
    Path(file).write_text(LINE)
    Dataset.from_list([ROW]).save_to_disk(whole)
    DatasetDict(test=Dataset.from_list([ROW])).save_to_disk(parts)
    both: dict[str, Any] = {"split": "test", "revision": "v2"}
    for path in (file, whole, [file, whole], str(tmp_path / "*.jsonl")):
        with pytest.raises(ConfigurationError) as caught:
            check_origin(DataConfig(path=path, **both))
        split, revision = caught.value.problems
        assert "has no splits, but split=test, which is for a name on the Hugging Face Hub or a folder saved" in split
        assert "is no name on the Hugging Face Hub, but has the revision v2; remove revision" in revision
        check_origin(DataConfig(path=path))
    with pytest.raises(ConfigurationError, match=r"1 problem .*\n.* but has the revision v2"):
        check_origin(DataConfig(path=[file, parts], **both))
    check_origin(DataConfig(path=[file, parts], split="test"))
    check_origin(DataConfig(path=[file, "some/facts"], **both))


def test_split_and_revision_are_read_of_those_entries_that_have_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINE)
    assert rows(tmp_path / "a.jsonl", "test", "v2") == rows(tmp_path / "a.jsonl")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"messages": "x" * 10_000}) + "\n")
    data.write_bytes(data.read_bytes() * 1000)  # 10 MB
    (source,) = find_sources(str(data), "train", None)
    tracemalloc.start()
    assert sum(1 for _ in source.rows()) == 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_chunks_of_a_compressed_file_are_no_larger_than_others(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl.gz"
    line = json.dumps({"document": "x" * 50_000}) + "\n"
    data.write_bytes(gzip.compress(line.encode() * 100))
    read = list(chunks([find_sources(str(data), "train", None)], DataConfig(path=str(data))))
    assert sum(len(chunk.rows) for chunk in read) == 100
    assert max(len(row.content) * len(chunk.rows) for chunk in read for row in chunk.rows) < CHUNK_BYTES + 2 * len(line)


def test_the_longest_line_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sources", "formats"):
        monkeypatch.setattr(sys.modules[f"osftx.data.{module}"], "MAX_ROW_BYTES", 20)
    assert MAX_ROW_BYTES > 20
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps("x" * (length - 2)) + "\n" for length in (20, 21, 22, 70, 3)))
    (source,) = find_sources(str(data), "train", None)
    read = [(row.place.rpartition(":")[2], len(row.content.rstrip())) for row in source.rows()]
    assert read == [("1", 20), ("2", 21), ("3", 21), ("4", 21), ("5", 3)]
