"""What is read from a JSONL file, and what is said about one that is wrong."""

import json
import tracemalloc
from pathlib import Path

import pytest

from osftx.data.sources import read_conversations
from osftx.errors import ConfigurationError

GOOD = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "One."}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def row(*messages: object) -> str:
    return json.dumps({"messages": messages})


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        list(read_conversations(path))
    return caught.value.problems


def test_lines_and_their_numbers(data: Path) -> None:
    system = {"role": "system", "content": "東京 😀"}
    data.write_text(f"\ufeff{row(*GOOD)}\n\n{row(system, *GOOD)}\r\n   \n{row(*GOOD)}", encoding="utf-8")
    read: list[int] = []
    conversations = list(read_conversations(data, read.append))
    assert conversations == [(1, GOOD), (3, [system, *GOOD]), (5, GOOD)]
    assert sum(read) == data.stat().st_size


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"messages": [', "is not JSON (Expecting value at character 16); each line must be one object"),
        ("[1]", "is a JSON list; each line must be an object with a list `messages`"),
        ('{"text": "x", "id": 1}', "has the keys ['id', 'text']; it must have `messages`"),
        ('{"messages": []}', "`messages` is empty list; it must have `messages`"),
        ('{"messages": null}', "`messages` is null; it must have `messages`"),
        ('{"messages": {"a": 1}}', "`messages` is object; it must have `messages`"),
        (row("hello"), "message 1 is a JSON string; it must be an object with role and content"),
        (row(*GOOD, {"role": "tool", "content": "x"}), "message 3 has the role 'tool'; it must be one of"),
        (row({"content": "x"}), "message 1 has the role None; it must be one of system, user, assistant"),
        (row({"role": ["user"], "content": "x"}), "message 1 has the role ['user']; it must be"),
        (row({"role": "user"}), "message 1 (user) has a content that is null; it must be text"),
        (row({"role": "user", "content": [{"text": "x"}]}), "has a content that is list; it must be text"),
        (row({"role": "user", "content": True}), "has a content that is boolean; it must be text"),
        (row({"role": "user", "content": ""}), "message 1 (user) has an empty content"),
        (row(GOOD[0], {"role": "assistant", "content": " \n"}), "message 2 (assistant) has an empty content"),
        (row(GOOD[0]), "has no assistant turn; it needs one"),
        (row({"role": "user", "content": "ab\ud83d"}), r"holds \ud83d, half of a character, at character 3"),
        (json.dumps({"messages": GOOD, "tools": [{"name": "x"}]}), "has `tools`, which are not supported"),
    ],
)  # fmt: skip
def test_line_that_is_wrong(data: Path, line: str, problem: str) -> None:
    data.write_text(f"{row(*GOOD)}\n{line}\n{row(*GOOD)}\n")
    (found,) = problems_of(data)
    assert found.startswith(f"{data}:2: ")
    assert problem in found
    assert "\n" not in found


def test_line_that_is_not_utf8(data: Path) -> None:
    data.write_bytes(b'{"messages": "\xff"}\n')
    (found,) = problems_of(data)
    assert f"{data}:1: is not UTF-8 text" in found


def test_all_problems_are_found_at_once(data: Path) -> None:
    data.write_text("\n".join([row(*GOOD), "no", row(GOOD[0]), row(*GOOD), "[]"]))
    assert [problem.split(": ")[0] for problem in problems_of(data)] == [f"{data}:{line}" for line in (2, 3, 5)]


def test_reading_stops_at_twenty_problems(data: Path) -> None:
    data.write_text("no\n" * 1000)
    problems = problems_of(data)
    assert len(problems) == 20
    assert problems[-1].startswith(f"{data}:20: ")
    assert problems[-1].endswith("(reading stopped here, at problem 20)")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(data: Path, content: str) -> None:
    data.write_text(content)
    assert problems_of(data) == [f"{data}: is empty; each line must be an object with a list `messages`"]


def test_missing_file_and_folder(data: Path, tmp_path: Path) -> None:
    assert problems_of(data) == [f"{data}: cannot be read (No such file or directory); give a JSONL file"]
    assert problems_of(tmp_path) == [f"{tmp_path}: cannot be read (Is a directory); give a JSONL file"]


def test_memory_does_not_grow_with_the_file(data: Path) -> None:
    long_turn = {"role": "user", "content": "x" * 10_000}
    data.write_text(f"{row(long_turn, GOOD[1])}\n" * 1000)  # 10 MB
    tracemalloc.start()
    assert sum(1 for _ in read_conversations(data)) == 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
