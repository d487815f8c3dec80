"""Interprets a row as a conversation, a document or token ids, and defines the error for an invalid row.

To add a chat format, add its keys to `Shape`, and to `CONVERSATIONS` the function that turns a row into messages.
"""

import json
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NoReturn

from osftx.config.schema import DataFormat, TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.sources import MAX_ROW_BYTES

ROLES = ("system", "user", "assistant", "tool", "pretraining")
MESSAGE_KEYS = ("role", "content", "tool_calls", "reasoning_content", "train", "name", "tool_call_id")
TEXT_KEYS = ("reasoning_content", "name", "tool_call_id")
ROLE_NAMES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
              "tool": "tool", "observation": "tool"}  # fmt: skip
"""Roles by the values that `from` may have."""
IGNORED_LABEL = -100
"""Label of a token that the loss does not count (the default of torch's cross-entropy)."""


class RowError(ValueError):
    """Raised for an invalid row; the message says what is wrong, what is allowed and what to do, without the place."""


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


def parse(content: Any) -> dict[str, Any]:
    """Returns the row as an object. `content` is JSON as bytes, or the row of a table.

    Raises:
        RowError: it is not JSON in UTF-8, or not an object.
    """
    row = _parse_line(content) if isinstance(content, bytes) else content
    if not isinstance(row, dict):
        raise RowError(f"is a JSON {_kind(row)}; each line must be an object, such as one with a list `messages`")
    return row


def conversation_of(shape: Shape, row: Mapping[str, Any], train_on: TrainOn) -> Conversation:
    """Returns the conversation of a row and checks its messages; other columns (identifiers, sources) are ignored.

    Raises:
        RowError: there is no conversation, a message is invalid, or nothing of it would be trained on.
    """
    messages = CONVERSATIONS[shape](row)
    checked = [_checked(number, message) for number, message in enumerate(messages, 1)]
    if train_on in (TrainOn.assistant, TrainOn.last_assistant):
        if not any(message["role"] in ("assistant", "pretraining") for message in checked):
            raise RowError("has no assistant turn; it needs one, since loss is counted on nothing else")
    elif all(message["role"] == "system" for message in checked):
        raise RowError("has a system message alone; it needs a turn to train on")
    return Conversation(checked, _tools(row))


def document_of(row: Mapping[str, Any], column: str) -> str:
    """Returns the text of a row. Raises RowError if there is none."""
    text = row.get(column)
    if column not in row:
        raise RowError(f"has the keys {sorted(row)}; it must have `{column}`, as data.document_column says")
    if not isinstance(text, str) or not text.strip():
        raise RowError(f"`{column}` is {_kind(text)}; it must be text that is not blank")
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
    return ids, [label != IGNORED_LABEL for label in labels]


def _parse_line(line: bytes) -> Any:
    if len(line.rstrip(b"\r\n")) > MAX_ROW_BYTES:
        raise RowError(f"is longer than {MAX_ROW_BYTES >> 20} MiB; split it into several rows")
    try:
        row = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant)
        if b"\\u" in line:  # JSON escapes can encode half of a character, which UTF-8 cannot
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise RowError(
            f"is not UTF-8 text ({error.reason} at byte {error.start + 1}); save the file as UTF-8"
        ) from error
    except UnicodeEncodeError as error:
        half = error.object[error.start].encode("unicode_escape").decode()
        before = error.object[max(0, error.start - 20) : error.start]
        raise RowError(f"holds {half}, half of a character, behind {before!r}; write the whole character") from error
    except RecursionError as error:
        raise RowError("is nested too deeply to be a row; each line must be one object") from error
    except json.JSONDecodeError as error:
        raise RowError(
            f"is not JSON ({error.msg} at character {error.pos + 1}); each line must be one object"
        ) from error
    except RowError:
        raise
    except ValueError as error:  # a number with thousands of digits
        raise RowError(f"is not JSON that can be read ({str(error).partition(';')[0]}); correct it") from error
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise RowError(f"holds {name}, which JSON does not have; write a number, or null")


def _list_of(row: Mapping[str, Any], key: str, what: str) -> list[Any]:
    values = row.get(key)
    if not isinstance(values, list) or not values:
        given = f"`{key}` is {_kind(values)}" if key in row else f"has the keys {sorted(row)}"
        raise RowError(f"{given}; it must have `{key}`, a list of at least one {what}")
    return values


def _numbers(row: Mapping[str, Any], key: str) -> list[int]:
    values = _list_of(row, key, "token")
    for place, value in enumerate(values, 1):
        if type(value) is not int:  # bool is a subclass of int
            raise RowError(f"`{key}` has a JSON {_kind(value)} at place {place}; it must hold whole numbers alone")
    return values


def _messages(row: Mapping[str, Any]) -> list[Any]:
    return _list_of(row, "messages", "message")


def _from_conversations(row: Mapping[str, Any]) -> list[Any]:
    """Returns the messages of turns with `from` and `value`; turns that have a role already are left unchanged."""
    messages = [_from_turn(number, turn) for number, turn in enumerate(_list_of(row, "conversations", "turn"), 1)]
    return [*_system(row), *messages]


def _from_turn(number: int, turn: Any) -> Any:
    if not isinstance(turn, dict) or "role" in turn:
        return turn
    sender = turn.get("from")
    role = ROLE_NAMES.get(sender) if isinstance(sender, str) else None
    if role is None:
        raise RowError(f"turn {number} is from {sender!r}; `from` must be one of {', '.join(ROLE_NAMES)}")
    rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
    return {"role": role, "content": turn.get("value"), **rest}


def _from_instruction(row: Mapping[str, Any]) -> list[Any]:
    """Returns the messages of an instruction: `instruction`, then any `input`, is the question, `output` the answer."""
    for key in ("instruction", "output", "input"):
        value = row.get(key)
        if key != "input" and (not isinstance(value, str) or not value.strip()):
            given = f"`{key}` is {_kind(value)}" if key in row else f"has the keys {sorted(row)}"
            raise RowError(f"{given}; it must have `{key}`, a text that is not blank")
        if value is not None and not isinstance(value, str):
            raise RowError(f"`{key}` is {_kind(value)}; it must be text")
    if row.get("history"):
        raise RowError("has a `history`, which is not read; write the turns as `messages`")
    question = "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)
    return [*_system(row), {"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]


def _system(row: Mapping[str, Any]) -> list[Any]:
    return [{"role": "system", "content": row["system"]}] if row.get("system") not in (None, "") else []


def _tools(row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    tools = row.get("tools")
    if tools is None or tools == []:
        return None
    if not _are_objects(tools):
        raise RowError(f"`tools` is {_kind(tools)}; it must be a list of objects, the JSON schemas of functions")
    return list(tools)


def _checked(number: int, message: Any) -> dict[str, Any]:
    """Returns the message without its null entries, after checking it.

    Unknown keys are rejected rather than dropped silently, since a template may read any key. Raises RowError.
    """
    if not isinstance(message, dict):
        raise RowError(f"message {number} is a JSON {_kind(message)}; it must be an object with role and content")
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    if role not in ROLES:
        raise RowError(f"message {number} has the role {role!r}; it must be one of {', '.join(ROLES)}")
    here = f"message {number} ({role})"
    if calls and not (role == "assistant" and _are_objects(calls)):
        raise RowError(f"{here} has `tool_calls` that are {_kind(calls)}; an assistant turn may have a list of objects")
    if not isinstance(content, str) and not (content is None and calls):
        raise RowError(f"{here} has a content that is {_kind(content)}; it must be text")
    if not (content or "").strip() and not calls:
        raise RowError(f"{here} has an empty content; write it or remove the message")
    for key in TEXT_KEYS:
        if message.get(key) is not None and not isinstance(message[key], str):
            raise RowError(f"{here} has a `{key}` that is {_kind(message[key])}; it must be text")
    if not isinstance(message.get("train"), bool | None):
        raise RowError(f"{here} has a `train` that is {_kind(message['train'])}; it must be true or false")
    if unknown := sorted(key for key, value in message.items() if key not in MESSAGE_KEYS and value is not None):
        raise RowError(
            f"{here} has the keys {', '.join(unknown)}; a message has {', '.join(MESSAGE_KEYS)}: remove others"
        )
    return {key: value for key, value in message.items() if value not in (None, []) or key == "content"}


def _are_objects(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, dict) for value in values)


def _kind(value: Any) -> str:
    """Returns the JSON name of the value's type."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    name = names.get(type(value), type(value).__name__)
    return f"empty {name}" if value in ([], {}, "") else name


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
