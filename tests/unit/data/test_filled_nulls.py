"""Nulls of tables that were written as JSON lines: those that mean nothing are left out."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from refusals import GOOD

from osftx.config.schema import TrainOn
from osftx.data.formats import Shape, conversation_of


def tool(name: str, *arguments: str, **more: Any) -> dict[str, Any]:
    properties = {argument: {"type": "string"} for argument in arguments}
    return {"type": "function", "function": {"name": name, "parameters": {"properties": properties, **more}}}


def calling(name: str, **arguments: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"messages": [GOOD[0], {"role": "assistant", "content": None, "tool_calls": [call]}]}


def arguments_of(row: dict[str, Any]) -> Any:
    conversation = conversation_of(Shape.messages, row, TrainOn.assistant)
    return conversation.messages[-1]["tool_calls"][0]["function"]["arguments"]


def test_rows_that_datasets_has_filled_up(tmp_path: Path) -> None:
    rows = [
        {**calling("move", x="0"), "tools": [tool("move", "x")]},
        {**calling("say", text="hi"), "tools": [tool("say", "text")]},
    ]
    path = tmp_path / "rows.jsonl"
    Dataset.from_list(rows).to_json(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"x": "0", "text": None}
    for line, row in zip(lines, rows, strict=True):
        found = conversation_of(Shape.messages, line, TrainOn.assistant)
        assert (found.messages, found.tools) == (row["messages"], row["tools"])


def test_nulls_that_may_be_meant_stay() -> None:
    assert arguments_of({**calling("f", a=None), "tools": [tool("f", "a")]}) == {"a": None}
    assert arguments_of({**calling("f", a=None), "tools": [tool("f", additionalProperties=True)]}) == {"a": None}
    assert arguments_of({**calling("f", a=None), "tools": [tool("other")]}) == {"a": None}
    assert arguments_of(calling("f", a=None)) == {"a": None}
    assert arguments_of({**calling("f", a={"b": None}), "tools": [tool("f")]}) == {"a": {"b": None}}
    schema = tool("f", default=None, enum=["a", None])
    assert conversation_of(Shape.messages, {"messages": GOOD, "tools": [schema]}, TrainOn.assistant).tools == [schema]
