"""Interprets a row as a conversation, a document or token ids.

To add a chat format, add its keys to `Shape`, and to `CONVERSATIONS` the function that turns a row into messages.
"""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any

from osftx.config.schema import MESSAGE_ROLES, DataFormat, TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.json_text import RowError, kind_of, parse_json
from osftx.data.row_fields import MESSAGE_FLAGS, check_row, check_token_row, chosen_by_row, is_trained
from osftx.data.sources import MAX_ROW_BYTES
from osftx.data.table_rows import Unusable

MESSAGE_KEYS = ("role", "content", "tool_calls", "reasoning_content", "train", "name", "tool_call_id")
TEXT_KEYS = ("reasoning_content", "name", "tool_call_id")
ROLE_NAMES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
              "tool": "tool", "observation": "tool"}  # fmt: skip
"""Roles by the names that published data has for them."""
IGNORED_LABEL = -100
"""Label of a token that the loss does not count (the default of torch's cross-entropy)."""


class Shape(Enum):
    """The layout of rows. The value holds the keys by which a row of that shape is recognised."""

    messages = ("messages",)
    tokenized = ("input_ids", "labels")
    conversations = ("conversations",)
    instruction = ("instruction", "output")
    documents = ()
    """Documents have no fixed key; the key is `data.document_column`."""


def shape_of(row: Any, data_format: DataFormat, document_column: str) -> Shape | None:
    """Returns the shape that matches the keys of a row; None if no shape that `data_format` allows does."""
    if not isinstance(row, dict):
        return None
    return next(
        (shape for shape in SHAPES[data_format] if all(key in row for key in keys_of(shape, document_column))), None
    )


def keys_of(shape: Shape, document_column: str) -> tuple[str, ...]:
    """Returns the keys that every row of a shape has."""
    return shape.value or (document_column,)


def parse(content: Any, ignored: Collection[str] = ()) -> dict[str, Any]:
    """Returns the row as an object, without the fields `ignored`.

    Args:
        content: JSON as bytes, or the row of a table.
        ignored: names of fields that are left out, as `data.ignore_fields` says.

    Raises:
        RowError: it is not JSON in UTF-8, or not an object, or longer than a row may be.
    """
    if isinstance(content, Unusable):
        raise RowError(content.reason)
    row = _parse_line(content) if isinstance(content, bytes) else content
    if not isinstance(row, dict):
        raise RowError(f"is a JSON {kind_of(row)}; each line must be an object, such as one with a list `messages`")
    return _without(row, ignored)


def conversation_of(
    shape: Shape,
    row: Mapping[str, Any],
    train_on: TrainOn,
    roles: Mapping[str, str] | None = None,
    ignored: Collection[str] = (),
) -> Conversation:
    """Returns the conversation of a row and checks its messages; other columns (identifiers, sources) are ignored.

    Args:
        shape: the layout of the row.
        row: the row as an object.
        train_on: messages that are counted, unless the row itself says otherwise.
        roles: roles by names that the data has for them, in addition to `ROLE_NAMES`.
        ignored: names of fields of messages that are left out.

    Raises:
        RowError: there is no conversation, a message is invalid, or nothing of it would be trained on.
    """
    check_row(row, conversation=True)
    by_row = chosen_by_row(row) if train_on is not TrainOn.everything else None
    train_on = by_row or train_on
    names = ROLE_NAMES | dict(roles or {})
    found = [_named(_without(_object(message), ignored), names) for message in CONVERSATIONS[shape](row)]
    messages = _without_empty_end(found, train_on)
    checked = [_checked(number, message) for number, message in enumerate(messages, 1)]
    if train_on in (TrainOn.assistant, TrainOn.last_assistant):
        if not any(message["role"] in ("assistant", "pretraining") for message in checked):
            raise RowError("has no assistant turn; it needs one, since loss is counted on nothing else")
    elif all(message["role"] == "system" for message in checked):
        raise RowError("has a system message alone; it needs a turn to train on")
    return Conversation(checked, _tools(row), by_row, len(found) - len(messages))


def document_of(row: Mapping[str, Any], column: str) -> str:
    """Returns the text of a row. Raises RowError if there is none."""
    check_row(row, conversation=False)
    text = row.get(column)
    if column not in row:
        raise RowError(f"has the keys {sorted(row)}; it must have `{column}`, as data.document_column says")
    if not isinstance(text, str) or not text.strip():
        raise RowError(f"`{column}` is {kind_of(text)}; it must be text that is not blank")
    return text


def tokens_of(row: Mapping[str, Any], vocab_size: int | None) -> tuple[list[int], list[bool]]:
    """Returns the token ids, and whether the loss counts each of them, which is the case where the label is not -100.

    Raises:
        RowError: the ids are not whole numbers from 0 to `vocab_size` - 1, or a label is neither its id nor -100.
    """
    ids, labels = _numbers(row, "input_ids"), _numbers(row, "labels")
    if len(ids) != len(labels):
        raise RowError(
            f"has {len(ids)} `input_ids` and {len(labels)} `labels`; give every id its label, the id or -100"
        )
    highest = 2**31 - 1 if vocab_size is None else vocab_size - 1
    for place, (token, label) in enumerate(zip(ids, labels, strict=True), 1):
        if not 0 <= token <= highest:
            raise RowError(
                f"`input_ids` has {token} at place {place}; ids of this tokenizer are 0 to {highest}: tokenise with "
                "the model's own tokenizer"
            )
        if label not in (token, IGNORED_LABEL):
            raise RowError(
                f"`labels` has {label} at place {place}, where the id is {token}; a label must be the id, or -100 for "
                "a token that is not counted (labels are not shifted)"
            )
    counted = [label != IGNORED_LABEL for label in labels]
    check_token_row(row, counted)
    return ids, counted


def _parse_line(line: bytes) -> Any:
    if len(line.rstrip(b"\r\n")) > MAX_ROW_BYTES:
        raise _too_long()
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowError(
            f"is not UTF-8 text ({error.reason} at byte {error.start + 1}); save the file as UTF-8"
        ) from error
    return parse_json(text)


def _too_long() -> RowError:
    return RowError(f"is longer than {MAX_ROW_BYTES >> 20} MiB; split it into several rows")


def _without(values: Any, ignored: Collection[str]) -> Any:
    if ignored and isinstance(values, dict):
        return {key: value for key, value in values.items() if key not in ignored}
    return values


def _from_json(value: Any, what: str) -> Any:
    """Returns what a JSON text stands for, since some data keeps lists and objects as text. Raises RowError."""
    try:
        return parse_json(value)
    except RowError as error:
        raise RowError(f"{what} is string, and {error}") from error


def _list_from_json(value: Any, what: str) -> Any:
    """Returns the value; a text that begins like a JSON list is parsed. Raises RowError."""
    return _from_json(value, what) if isinstance(value, str) and value.lstrip().startswith("[") else value


def _object(value: Any) -> Any:
    """Returns the value; a text that begins like a JSON object is parsed. Raises RowError."""
    return _from_json(value, "a part of it") if isinstance(value, str) and value.lstrip().startswith("{") else value


def _list_of(row: Mapping[str, Any], key: str, what: str) -> list[Any]:
    values = _list_from_json(row.get(key), f"`{key}`")
    if not isinstance(values, list) or not values:
        given = f"`{key}` is {kind_of(values)}" if key in row else f"has the keys {sorted(row)}"
        raise RowError(f"{given}; it must have `{key}`, a list of at least one {what}")
    return values


def _numbers(row: Mapping[str, Any], key: str) -> list[int]:
    values = _list_of(row, key, "token")
    for place, value in enumerate(values, 1):
        if type(value) is not int:  # bool is a subclass of int
            raise RowError(f"`{key}` has a JSON {kind_of(value)} at place {place}; it must hold whole numbers alone")
    return values


def _messages(row: Mapping[str, Any]) -> list[Any]:
    return _after_system(row, _list_of(row, "messages", "message"))


def _from_conversations(row: Mapping[str, Any]) -> list[Any]:
    """Returns the messages of turns with `from` and `value`; turns that have a role already are left unchanged."""
    return _after_system(row, [_from_turn(_object(turn)) for turn in _list_of(row, "conversations", "turn")])


def _from_turn(turn: Any) -> Any:
    if not isinstance(turn, dict) or "role" in turn:
        return turn
    rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
    return {"role": turn.get("from"), "content": turn.get("value"), **rest}


def _from_instruction(row: Mapping[str, Any]) -> list[Any]:
    """Returns the messages of an instruction: `instruction`, then any `input`, is the question, `output` the answer."""
    for key in ("instruction", "output", "input"):
        value = row.get(key)
        if key != "input" and (not isinstance(value, str) or not value.strip()):
            given = f"`{key}` is {kind_of(value)}" if key in row else f"has the keys {sorted(row)}"
            raise RowError(f"{given}; it must have `{key}`, a text that is not blank")
        if value is not None and not isinstance(value, str):
            raise RowError(f"`{key}` is {kind_of(value)}; it must be text")
    if row.get("history"):
        raise RowError("has a `history`, which is not read; write the turns as `messages`")
    question = "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)
    return _after_system(row, [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}])


def _after_system(row: Mapping[str, Any], messages: list[Any]) -> list[Any]:
    """Returns the messages behind the system message that the row has beside them, unless they begin with it.

    Raises RowError if they begin with another one.
    """
    system = row.get("system")
    if system in (None, ""):
        return messages
    first = _object(messages[0])
    if isinstance(first, dict) and first.get("role", first.get("from")) == "system":
        if first.get("content", first.get("value")) == system:
            return messages
        raise RowError("has a `system` beside messages that begin with another system message; keep one of them")
    return [{"role": "system", "content": system}, *messages]


def _tools(row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Returns the tools; the list, or each of them, may be given as JSON text."""
    tools = row.get("tools")
    if isinstance(tools, str):
        tools = _list_from_json(tools, "`tools`") if tools.strip() else None
    if tools is None or tools == []:
        return None
    if isinstance(tools, list):
        tools = [_object(tool) for tool in tools]
    if not _are_objects(tools):
        raise RowError(f"`tools` is {kind_of(tools)}; it must be a list of objects, the JSON schemas of functions")
    return list(tools)


def _named(message: Any, names: Mapping[str, str]) -> Any:
    """Returns the message with the role that its role's name stands for."""
    role = message.get("role") if isinstance(message, dict) else None
    return {**message, "role": names.get(role, role)} if isinstance(role, str) else message


def _without_empty_end(messages: list[Any], train_on: TrainOn) -> list[Any]:
    """Returns the messages without the empty turns at the end, if something is left to train on.

    Exported chats end with the empty turn that was to come next.
    """
    end = len(messages)
    while end and _is_empty_turn(messages[end - 1]):
        end -= 1
    needed = ("assistant",) if train_on in (TrainOn.assistant, TrainOn.last_assistant) else ("assistant", "user")
    if any(isinstance(message, dict) and message.get("role") in needed for message in messages[:end]):
        return messages[:end]
    return messages


def _is_empty_turn(message: Any) -> bool:
    """Returns whether a message is a turn of user or assistant without anything in it."""
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
        return False
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text") or "" if _is_text_part(part) else "other" for part in content)
    empty = content is None or (isinstance(content, str) and not content.strip())
    return empty and not message.get("tool_calls") and not message.get("reasoning_content")


def _content(here: str, content: Any) -> Any:
    """Returns the content; parts of text are joined as the templates that know parts do. Raises RowError."""
    if not isinstance(content, list) or not content:
        return content
    for number, part in enumerate(content, 1):
        if not isinstance(part, dict) or "type" not in part:
            raise RowError(
                f"{here} has a content that is list, and part {number} of it is {kind_of(part)} without a `type`; it "
                'must be text, or parts such as {"type": "text", "text": "..."}'
            )
        if not _is_text_part(part):
            keys = ", ".join(sorted(key for key, value in part.items() if value is not None))
            raise RowError(
                f"{here} has a part of the type {part['type']!r} with the keys {keys}; the model is given text alone: "
                "a part must have the type 'text', and its `text` alone"
            )
    return "".join(part["text"] for part in content)


def _is_text_part(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        return False
    return all(value is None for key, value in part.items() if key not in ("type", "text"))


def _checked(number: int, message: Any) -> dict[str, Any]:
    """Returns the message without its null entries, after checking it.

    Unknown keys are rejected rather than dropped silently, since a template may read any key. Raises RowError.
    """
    if not isinstance(message, dict):
        raise RowError(f"message {number} is a JSON {kind_of(message)}; it must be an object with role and content")
    role = message.get("role")
    if role not in MESSAGE_ROLES:
        to_map = f", or set data.roles={{{role}: assistant}}" if isinstance(role, str) and role.strip() else ""
        raise RowError(f"message {number} has the role {role!r}; it must be one of {', '.join(MESSAGE_ROLES)}{to_map}")
    here = f"message {number} ({role})"
    content, calls = _content(here, message.get("content")), _calls(here, message.get("tool_calls"))
    if calls and not (role == "assistant" and _are_objects(calls)):
        given = kind_of(calls)
        raise RowError(f"{here} has `tool_calls` that are {given}; an assistant turn may have a list of objects")
    if not isinstance(content, str) and not (content is None and calls):
        raise RowError(f"{here} has a content that is {kind_of(content)}; it must be text")
    if not (content or "").strip() and not calls:
        raise RowError(f"{here} has an empty content; write it or remove the message")
    for key in TEXT_KEYS:
        if message.get(key) is not None and not isinstance(message[key], str):
            raise RowError(f"{here} has a `{key}` that is {kind_of(message[key])}; it must be text")
    known = (*MESSAGE_KEYS, *MESSAGE_FLAGS)
    if unknown := sorted(key for key, value in message.items() if key not in known and value is not None):
        raise RowError(
            f"{here} has the keys {', '.join(unknown)}; a message has {', '.join(MESSAGE_KEYS)}: remove others, or set "
            f"data.ignore_fields=[{','.join(unknown)}]"
        )
    whole = {**message, "content": content, "tool_calls": calls, "train": is_trained(here, message)}
    return {
        key: value
        for key, value in whole.items()
        if key == "content" or (key in MESSAGE_KEYS and value not in (None, []))
    }


def _calls(here: str, calls: Any) -> Any:
    """Returns the tool calls; the list, or each of them, may be given as JSON text. Raises RowError."""
    if isinstance(calls, str) and not calls.strip():
        return None
    calls = _list_from_json(calls, f"`tool_calls` of {here}")
    return [_object(call) for call in calls] if isinstance(calls, list) else calls


def _are_objects(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, dict) for value in values)


CONVERSATIONS: dict[Shape, Callable[[Mapping[str, Any]], list[Any]]] = {
    Shape.messages: _messages,
    Shape.conversations: _from_conversations,
    Shape.instruction: _from_instruction,
}
"""Functions that turn a row into a list of messages, by the shape of the row."""

SHAPES = {
    DataFormat.auto: tuple(Shape),
    DataFormat.messages: tuple(CONVERSATIONS),
    DataFormat.documents: (Shape.documents,),
    DataFormat.tokenized: (Shape.tokenized,),
}
"""Shapes that each `data.format` allows; the first shape that fits a row is used."""
