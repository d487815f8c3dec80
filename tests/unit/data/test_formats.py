"""What rows mean, and what is said of those that are wrong: place, what is wrong, what is allowed."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from refusals import GOOD, refused

from osftx.config.schema import DataConfig, DataFormat, TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.formats import Shape, conversation_of, parse, shape_of
from osftx.data.json_text import RowError
from osftx.data.prepare import prepare

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": None}}}
TOOLS = [{"type": "function", "function": {"name": "add"}}]


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def read(row: dict[str, Any], train_on: TrainOn = TrainOn.assistant) -> Conversation:
    shape = shape_of(row, DataFormat.auto, "document")
    assert shape is not None
    return conversation_of(shape, row, train_on)


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"messages": [], "text": "", "document": ""}, Shape.messages),
        ({"input_ids": [], "labels": [], "document": ""}, Shape.tokenized),
        ({"conversations": []}, Shape.conversations),
        ({"instruction": "", "output": "", "input": ""}, Shape.instruction),
        ({"document": ""}, Shape.documents),
        ({"input_ids": []}, None),
        ({"text": ""}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_keys_show_the_shape(row: Any, shape: Shape | None) -> None:
    assert shape_of(row, DataFormat.auto, "document") is shape


def test_a_format_that_is_set_goes_before_what_the_keys_show() -> None:
    row = {"messages": [], "document": "", "input_ids": [], "labels": []}
    assert shape_of(row, DataFormat.documents, "document") is Shape.documents
    assert shape_of(row, DataFormat.tokenized, "document") is Shape.tokenized
    assert shape_of({"instruction": "", "output": ""}, DataFormat.messages, "document") is Shape.instruction
    assert shape_of({"document": ""}, DataFormat.messages, "document") is None


def test_everything_that_a_message_may_have_is_read() -> None:
    messages = [
        turn("system", "s"),
        turn("user", "u", name="Ann"),
        turn("assistant", None, tool_calls=[CALL], reasoning_content="hm", train=False),
        turn("tool", "3", tool_call_id="1", name="add"),
        turn("assistant", "3"),
    ]
    assert read({"id": 7, "messages": messages, "tools": TOOLS}) == Conversation(messages, TOOLS)


def test_null_is_as_if_it_were_not_there() -> None:
    messages = [turn("assistant", "x", tool_calls=None, name=None, train=None, weight=None)]
    assert read({"messages": messages, "tools": None}) == Conversation([turn("assistant", "x")], None)
    assert read({"messages": [turn("assistant", "x", tool_calls=[])], "tools": []}).messages == [turn("assistant", "x")]


@pytest.mark.parametrize("tools", [{}, "x", 0, False, "[1]", ["x"]])
def test_tools_are_a_list_of_objects(tools: Any) -> None:
    with pytest.raises(RowError, match=r"`tools` is .*; it must be a list of objects"):
        read({"messages": [turn("assistant", "x")], "tools": tools})


def test_names_of_roles_that_others_use() -> None:
    senders = ("system", "human", "gpt", "user", "assistant", "observation", "tool")
    turns = [{"from": sender, "value": sender} for sender in senders]
    roles = [message["role"] for message in read({"conversations": turns}).messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "tool", "tool"]
    assert read({"conversations": GOOD}).messages == GOOD


def test_an_instruction_without_an_input() -> None:
    expected = [turn("user", "a"), turn("assistant", "b")]
    for rest in ({}, {"input": ""}, {"input": None, "system": None}, {"system": ""}):
        assert read({"instruction": "a", "output": "b", **rest}).messages == expected


@pytest.mark.parametrize("train_on", [TrainOn.everything, TrainOn.all_but_system])
def test_a_conversation_without_an_answer_can_be_trained_on_otherwise(train_on: TrainOn) -> None:
    assert read({"messages": [turn("user", "x")]}, train_on).messages == [turn("user", "x")]
    with pytest.raises(RowError, match="has a system message alone"):
        read({"messages": [turn("system", "x")]}, train_on)


def test_a_text_to_pretrain_on_needs_no_answer() -> None:
    assert read({"messages": [turn("pretraining", "x")]}).messages == [turn("pretraining", "x")]


def messages(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(turns), **more}


def from_value(*turns: Any) -> dict[str, Any]:
    return {"conversations": list(turns)}


def tokens(input_ids: Any, labels: Any) -> dict[str, Any]:
    return {"input_ids": input_ids, "labels": labels}


USER, ANSWER = GOOD
FIRST: dict[str, dict[str, Any]] = {
    "messages": messages(*GOOD),
    "documents": {"document": "text"},
    "tokenized": tokens([1, 2, 3], [1, 2, 3]),
    "conversations": from_value({"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}),
    "instruction": {"instruction": "x", "output": "y"},
}
"""The first row, which decides how the others are read."""

WRONG: list[tuple[str, Any, str]] = [
    # Lines.
    ("messages", '{"messages": [', "is not JSON (Expecting value at character 16); each line must be one object"),
    ("messages", "{'messages': []}", "is not JSON (Expecting property name enclosed in double quotes at character 2)"),
    ("messages", json.dumps(messages(*GOOD)) * 2, "is not JSON (Extra data at character"),
    ("messages", '{"a": NaN}', "holds NaN, which JSON does not have; write a number, or null"),
    ("messages", '{"a": [1, -Infinity]}', "holds -Infinity, which JSON does not have"),
    ("messages", '{"a": ' + "9" * 5000 + "}", "is not JSON that can be read (Exceeds the limit (4300 digits)"),
    ("messages", '{"a": ' + "[" * 99_999, "is nested too deeply to be a row"),
    ("messages", messages(turn("user", "ab\ud83d")), "holds \\ud83d, half of a character, behind 'ser"),
    ("messages", messages(*GOOD, tools=[{"name": "\udc00"}]), "holds \\udc00, half of a character, behind '"),
    ("documents", {"document": "x \udfff"}, "holds \\udfff, half of a character, behind '{"),
    ("messages", [1], "is a JSON list; each line must be an object, such as one with a list `messages`"),
    ("messages", "3", "is a JSON number; each line must be an object"),
    ("messages", '"text"', "is a JSON string; each line must be an object"),
    ("messages", "null", "is a JSON null; each line must be an object"),
    # Conversations.
    ("messages", {"text": "x", "id": 1}, "has the keys ['id', 'text']; it must have `messages`"),
    ("messages", {}, "has the keys []; it must have `messages`"),
    ("messages", {"document": "text"}, "has the keys ['document']; it must have `messages`"),
    ("messages", FIRST["tokenized"], "has the keys ['input_ids', 'labels']; it must have `messages`"),
    ("messages", FIRST["conversations"], "has the keys ['conversations']; it must have `messages`"),
    ("messages", {"messages": []}, "`messages` is empty list; it must have `messages`"),
    ("messages", {"messages": None}, "`messages` is null; it must have `messages`"),
    ("messages", {"messages": {"a": 1}}, "`messages` is object; it must have `messages`"),
    ("messages", {"messages": "hi"}, "`messages` is string; it must have `messages`"),
    ("messages", {"messages": "[1,"}, "`messages` is a text that is not JSON (Expecting value"),
    ("messages", messages("hello"), "message 1 is a JSON string; it must be an object with role and content"),
    ("messages", messages(None), "message 1 is a JSON null; it must be an object with role and content"),
    ("messages", messages([USER, ANSWER]), "message 1 is a JSON list; it must be an object"),
    ("messages", messages(*GOOD, turn("robot", "x")), "message 3 has the role 'robot'; it must be one of system, user"),
    ("messages", messages({"content": "x"}), "message 1 has the role None; it must be one of system, user, assistant"),
    ("messages", messages(turn(["user"], "x")), "message 1 has the role ['user']; it must be"),  # type: ignore[arg-type]
    ("messages", messages({"role": "user"}), "message 1 (user) has a content that is null; it must be text"),
    ("messages", messages(turn("user", [{"text": "x"}])), "message 1 (user) has a content that is list, and part 1"),
    ("messages", messages(turn("user", ["x"])), "and part 1 of it is string without a `type`; it must be text, or"),
    ("messages", messages(turn("user", [{"type": "image_url", "image_url": "u"}]), ANSWER), "type 'image_url' with"),
    ("messages", messages(turn("user", [{"type": "text", "text": "x", "n": 1}]), ANSWER), "with the keys n, text"),
    ("messages", messages(turn("user", True)), "message 1 (user) has a content that is boolean; it must be text"),
    ("messages", messages(turn("user", {})), "message 1 (user) has a content that is empty object; it must be text"),
    ("messages", messages(turn("user", "")), "message 1 (user) has an empty content; write it or remove"),
    ("messages", messages(USER, turn("assistant", " \n")), "message 2 (assistant) has an empty content"),
    ("messages", messages(USER, turn("assistant", None)), "message 2 (assistant) has a content that is null"),
    ("messages", messages(USER), "has no assistant turn; it needs one, since loss is counted on nothing else"),
    ("messages", messages(USER, turn("tool", "x")), "has no assistant turn; it needs one"),
    ("messages", messages(turn("user", "x", tool_calls=[CALL]), ANSWER), "message 1 (user) has `tool_calls` that are"),
    ("messages", messages(USER, turn("assistant", None, tool_calls="add")), "has `tool_calls` that are string; an"),
    ("messages", messages(USER, turn("assistant", "x", tool_calls=[1])), "has `tool_calls` that are list; an"),
    ("messages", messages(USER, turn("assistant", "x", reasoning_content=1)), "has a `reasoning_content` that is"),
    ("messages", messages(turn("user", "x", name=["x"]), ANSWER), "message 1 (user) has a `name` that is list; it"),
    ("messages", messages(turn("tool", "x", tool_call_id=7), ANSWER), "has a `tool_call_id` that is number; it"),
    ("messages", messages(USER, turn("assistant", "x", train="no")), "has a `train` that is string; it must be"),
    ("messages", messages(USER, turn("assistant", "x", train=0)), "has a `train` that is number; it must be true or"),
    ("messages", messages(USER, turn("assistant", "x", weight=0.5)), "`weight` that is 0.5; it must be 0 or 1"),
    ("messages", messages(USER, turn("assistant", "x", weight=0, train=True)), "has `train` and `weight`, which"),
    ("messages", messages(USER, turn("assistant", "x", mask=1)), "message 2 (assistant) has the keys mask; a message"),
    ("messages", '{"messages": [], "messages": []}', "has the key 'messages' twice in one object; keep one of them"),
    ("messages", '{"a": 1e999}', "holds the number 1e999, which is beyond the range of a float; write it as text"),
    ("messages", messages(*GOOD, tools={"name": "x"}), "`tools` is object; it must be a list of objects"),
    ("messages", messages(*GOOD, tools=["x"]), "`tools` is list; it must be a list of objects"),
    # The shapes that are converted.
    ("conversations", messages(*GOOD), "has the keys ['messages']; it must have `conversations`"),
    ("conversations", from_value(), "`conversations` is empty list; it must have `conversations`"),
    ("conversations", from_value({"from": "bot", "value": "x"}), "message 1 has the role 'bot'; it must be one of"),
    ("conversations", from_value({"from": ["gpt"], "value": "x"}), "message 1 has the role ['gpt']; it must be one"),
    ("conversations", from_value({"value": "x"}), "message 1 has the role None; it must be one of system"),
    ("conversations", from_value({"from": "gpt"}), "message 1 (assistant) has a content that is null; it must be text"),
    ("conversations", from_value({"from": "gpt", "value": "x", "loss": 2}), "has a `loss` that is number; it must"),
    ("conversations", from_value("x"), "message 1 is a JSON string; it must be an object"),
    ("conversations", from_value({"from": "human", "value": "x"}), "has no assistant turn; it needs one"),
    ("instruction", {"instruction": "x"}, "has the keys ['instruction']; it must have `output`, a text that is not"),
    ("instruction", {"instruction": "", "output": "y"}, "`instruction` is empty string; it must have `instruction`"),
    ("instruction", {"instruction": "x", "output": 3}, "`output` is number; it must have `output`, a text"),
    ("instruction", {"instruction": "x", "output": "y", "input": ["z"]}, "`input` is list; it must be text"),
    ("instruction", {"instruction": "x", "output": "y", "system": 1}, "message 1 (system) has a content that is"),
    ("instruction", {"instruction": "x", "output": "y", "history": [["a", "b"]]}, "has a `history`, which is not read"),
    # Documents.
    ("documents", messages(*GOOD), "has the keys ['messages']; it must have `document`, as data.document_column says"),
    ("documents", {"document": None}, "`document` is null; it must be text that is not blank"),
    ("documents", {"document": " \n"}, "`document` is string; it must be text that is not blank"),
    ("documents", {"document": ["x"]}, "`document` is list; it must be text that is not blank"),
    # Token ids.
    ("tokenized", {"input_ids": [1, 2]}, "has the keys ['input_ids']; it must have `labels`, a list of at least one"),
    ("tokenized", tokens([], []), "`input_ids` is empty list; it must have `input_ids`, a list of at least one token"),
    ("tokenized", tokens("1 2", [1]), "`input_ids` is string; it must have `input_ids`"),
    ("tokenized", tokens([1, 2], [1, 2, 3]), "has 2 `input_ids` and 3 `labels`; "),
    ("tokenized", tokens([1, 2, 3], [1, 2]), "has 3 `input_ids` and 2 `labels`; "),
    ("tokenized", tokens([1, 99_999], [1, 99_999]), "`input_ids` has 99999 at place 2; ids of this tokenizer are 0 to"),
    ("tokenized", tokens([1, -1], [1, -1]), "`input_ids` has -1 at place 2; ids of this tokenizer are 0 to"),
    ("tokenized", tokens([1, -100], [1, -100]), "`input_ids` has -100 at place 2; ids of this tokenizer are 0 to"),
    ("tokenized", tokens([1, 2.0], [1, 2]), "`input_ids` has a JSON number at place 2; it must hold whole numbers"),
    ("tokenized", tokens([1, True], [1, 1]), "`input_ids` has a JSON boolean at place 2; it must hold whole numbers"),
    ("tokenized", tokens([1, 2], [1, None]), "`labels` has a JSON null at place 2; it must hold whole numbers alone"),
    ("tokenized", tokens([[1, 2]], [[1, 2]]), "`input_ids` has a JSON list at place 1; it must hold whole numbers"),
    ("tokenized", tokens([1, 2, 3], [2, 3, -100]), "`labels` has 2 at place 1, where the id is 1; a label must be the"),
    ("tokenized", tokens([1, 2], [1, -1]), "`labels` has -1 at place 2, where the id is 2; a label must be the id, or"),
    ("tokenized", tokens([1, 2], [1, -100]), "has no token on which loss is counted; give it a turn, or a label"),
    ("tokenized", tokens([1], [1]), "has no token on which loss is counted"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "row", "says"), WRONG, ids=[f"{first}: {says[:40]}" for first, _, says in WRONG])
def test_a_row_that_is_wrong(chatml: ChatTokenizer, tmp_path: Path, first: str, row: Any, says: str) -> None:
    data = tmp_path / "data.jsonl"
    good = json.dumps(FIRST[first])
    line = row if isinstance(row, str) else json.dumps(row)
    data.write_text(f"{good}\n{line}\n{good}\n", encoding="utf-8")
    (problem,) = refused(chatml, tmp_path / "prepared", str(data))
    assert problem.startswith(f"{data}:2: ")
    assert says in problem


@pytest.mark.parametrize(
    ("first", "row", "says"),
    [
        ("tokenized", tokens([1, 2], None), "has the keys ['input_ids']; it must have `labels`"),
        ("tokenized", tokens([1, None], [1, 2]), "`input_ids` has a JSON null at place 2"),
        (
            "tokenized",
            tokens([1, 2**40], [1, 2**40]),
            "`input_ids` has 1099511627776 at place 2; ids of this tokenizer",
        ),
        ("documents", {"document": None}, "has the keys []; it must have `document`"),
        ("messages", {"messages": None}, "has the keys []; it must have `messages`"),
        ("messages", messages(turn("user", None)), "message 1 (user) has a content that is null; it must be text"),
    ],
)
def test_a_row_of_a_table_that_is_wrong(
    chatml: ChatTokenizer, tmp_path: Path, first: str, row: dict[str, Any], says: str
) -> None:
    path = tmp_path / "data.parquet"
    Dataset.from_list([FIRST[first], row]).to_parquet(path)
    (problem,) = refused(chatml, tmp_path / "prepared", str(path))
    assert problem.startswith(f"{path}: row 2: ")
    assert says in problem


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "it must have `messages`, or `input_ids` and `labels`, or `conversations`, or `instruction` and `output`, "
             "or `document` (data.format=auto)"),
        ({"document_column": "body"}, "or `body` (data.format=auto)"),
        ({"format": DataFormat.documents}, "it must have `document` (data.format=documents)"),
        ({"format": DataFormat.tokenized}, "it must have `input_ids` and `labels` (data.format=tokenized)"),
        ({"format": DataFormat.messages}, "it must have `messages`, or `conversations`, or `instruction` and `output`"),
    ],
)  # fmt: skip
def test_a_file_of_an_unknown_format_is_told_once(
    chatml: ChatTokenizer, tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("no\n" + '{"text": "x"}\n' * 50)
    (problem,) = refused(chatml, tmp_path / "prepared", str(data), **settings)
    assert problem.startswith(f"{data}:2: has the keys ['text']; ")
    assert says in problem


def test_all_problems_are_found_at_once(chatml: ChatTokenizer, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    good = json.dumps(messages(*GOOD))
    thinking = json.dumps(messages(USER, turn("assistant", "x", reasoning_content=1)))
    data.write_text("\n".join([good, "no", thinking, good, "[]"]))
    problems = refused(chatml, tmp_path / "prepared", str(data))
    assert [problem.split(": ")[0] for problem in problems] == [f"{data}:{line}" for line in (2, 3, 5)]


def test_many_rows_with_the_same_reason_are_told_once(chatml: ChatTokenizer, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("no\n" * 1000 + "[]\n")
    many, other = refused(chatml, tmp_path / "prepared", str(data))
    assert many == (
        f"{data}:1: is not JSON (Expecting value at character 1); each line must be one object (1,000 rows have this "
        f"reason, also {data}:2 and {data}:3; on_bad_row=skip leaves them out)"
    )
    assert other.startswith(f"{data}:1001: is a JSON empty list")


def test_reading_stops_at_twenty_different_problems(chatml: ChatTokenizer, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [messages(turn("user", "x", **{"key" + "z" * number: 1}), ANSWER) for number in range(50)]
    data.write_text("\n".join(map(json.dumps, rows)))
    problems = refused(chatml, tmp_path / "prepared", str(data))
    assert len(problems) == 20
    assert problems[-1].startswith(f"{data}:20: ")
    assert problems[-1].endswith("(reading stopped here, at row 20 of those that cannot be used)")


def test_problems_of_rows_and_of_the_file_come_together(chatml: ChatTokenizer, tmp_path: Path) -> None:
    other = tmp_path / "empty.jsonl"
    other.touch()
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(messages(*GOOD)) + "\nno\n")
    of_row, of_file = refused(chatml, tmp_path / "prepared", [str(data), str(other)])
    assert of_row.startswith(f"{data}:2: is not JSON")
    assert of_file.startswith(f"{other}: is empty")


def test_a_row_that_cannot_be_parsed_does_not_hide_the_format(chatml: ChatTokenizer, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('no\n{"document": "x"}\n')
    (problem,) = refused(chatml, tmp_path / "prepared", str(data))
    assert problem.startswith(f"{data}:1: is not JSON")


def test_marks_and_line_ends_of_other_systems_are_read(chatml: ChatTokenizer, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    row = json.dumps(messages(*GOOD))
    data.write_bytes(f"\ufeff{row}\r\n\r\n{row}\r\n".encode())
    assert prepare(DataConfig(path=str(data)), chatml, 100, None).summary.samples == 2


def test_a_whole_character_may_be_spelt_in_two_halves() -> None:
    assert parse(rb'{"a": "\ud83d\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize("text", ['"\\ud83d"', "NaN"])
def test_rows_of_a_json_list_are_checked_like_lines(chatml: ChatTokenizer, tmp_path: Path, text: str) -> None:
    data = tmp_path / "data.json"
    data.write_text(f'[{{"document": "x"}}, {{"document": {text}}}]')
    (problem,) = refused(chatml, tmp_path / "prepared", str(data))
    assert problem.startswith(f"{data}: row 2: holds ")


@pytest.mark.parametrize("content", ["xy", [{"type": "text", "text": "x"}, {"type": "text", "text": "y", "n": None}]])
def test_parts_of_text_are_joined(content: Any) -> None:
    assert read(messages(turn("user", content), ANSWER)).messages == [turn("user", "xy"), ANSWER]


@pytest.mark.parametrize("as_text", [json.dumps, lambda value: value])
@pytest.mark.parametrize("each_as_text", [json.dumps, lambda value: value])
def test_lists_and_objects_may_be_json_text(as_text: Any, each_as_text: Any) -> None:
    caller = turn("assistant", None, tool_calls=as_text([each_as_text(CALL)]))
    row = {"messages": as_text([each_as_text(m) for m in (USER, caller)]), "tools": as_text([each_as_text(TOOLS[0])])}
    assert read(row) == Conversation([USER, turn("assistant", None, tool_calls=[CALL])], TOOLS)


@pytest.mark.parametrize("tools", ["", "[]", " ", None, []])
def test_no_tools(tools: Any) -> None:
    assert read(messages(*GOOD, tools=tools)).tools is None


def test_a_text_that_is_nested_or_half_is_told() -> None:
    with pytest.raises(RowError, match="`tools` is a text that is nested too deeply to be a row; correct it"):
        read(messages(*GOOD, tools="[" * 99_999))
    with pytest.raises(RowError, match=r"`tools` is a text that holds \\ud83d, half of a character"):
        read(messages(*GOOD, tools='[{"name": "\\ud83d"}]'))


def test_names_of_roles_that_the_settings_give() -> None:
    row = from_value({"from": "user", "value": "1"}, {"from": "chatgpt", "value": "One."})
    assert conversation_of(Shape.conversations, row, TrainOn.assistant, {"chatgpt": "assistant"}).messages == GOOD
    with pytest.raises(RowError, match=r"message 2 has the role 'chatgpt'.*or set data.roles={chatgpt: assistant}"):
        read(row)
    row = messages(USER, turn("bing", "One."))
    assert conversation_of(Shape.messages, row, TrainOn.assistant, {"bing": "assistant"}).messages == GOOD


def test_fields_that_are_ignored() -> None:
    row = messages(USER, turn("assistant", "One.", mood="fine"), weight=3)
    content = parse(json.dumps(row).encode(), ("mood", "weight"))
    assert conversation_of(Shape.messages, content, TrainOn.assistant, ignored=("mood", "weight")).messages == GOOD


@pytest.mark.parametrize("end", [[turn("user", "")], [turn("user", " "), turn("assistant", None)], []])
def test_empty_turns_at_the_end_are_left_out(end: list[Any]) -> None:
    found = read(messages(*GOOD, *end))
    assert (found.messages, found.empty_turns) == (GOOD, len(end))


def test_a_system_message_beside_the_messages() -> None:
    system = turn("system", "Be brief.")
    assert read(messages(*GOOD, system="Be brief.")).messages == [system, *GOOD]
    assert read(messages(system, *GOOD, system="Be brief.")).messages == [system, *GOOD]
    with pytest.raises(RowError, match="beside messages that begin with another system message"):
        read(messages(system, *GOOD, system="Be long."))
