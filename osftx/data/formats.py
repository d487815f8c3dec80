"""Interprets a row as a conversation, a document or token ids.

To add a chat format, add its keys to `Shape`, and to `CONVERSATIONS` the function that turns a row into messages.
"""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any

from osftx.config.schema import DataFormat, TrainOn
from osftx.data.chat.conversation import Conversation
from osftx.data.filled_nulls import without_filled_arguments, without_filled_schema
from osftx.data.json_text import RowError, check_json, kind_of, list_from_json, object_from_json, parse_json
from osftx.data.messages import ROLE_NAMES, are_objects, checked_message, named, without_empty_end
from osftx.data.row_fields import check_row, check_token_row, chosen_by_row
from osftx.data.sources import MAX_ROW_BYTES
from osftx.data.table_rows import Unusable

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
    turns = CONVERSATIONS[shape](row)
    check_row(row, conversation=True)
    by_row = chosen_by_row(row) if train_on is not TrainOn.everything else None
    train_on = by_row or train_on
    names = ROLE_NAMES | dict(roles or {})
    found = [named(_without(object_from_json(turn, "a message"), ignored), names) for turn in turns]
    messages = without_empty_end(found, train_on)
    checked = [checked_message(number, message) for number, message in enumerate(messages, 1)]
    if train_on in (TrainOn.assistant, TrainOn.last_assistant):
        if not any(message["role"] in ("assistant", "pretraining") for message in checked):
            raise RowError("has no assistant turn; it needs one, since loss is counted on nothing else")
    elif all(message["role"] == "system" for message in checked):
        raise RowError("has a system message alone; it needs a turn to train on")
    tools = _tools(row)
    written = [without_filled_arguments(message, tools) for message in checked]
    return Conversation(written, tools, by_row, len(found) - len(messages))


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


def _list_of(row: Mapping[str, Any], key: str, what: str) -> list[Any]:
    values = list_from_json(row.get(key), f"`{key}`")
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
    return _after_system(
        row, [_from_turn(object_from_json(turn, "a turn")) for turn in _list_of(row, "conversations", "turn")]
    )


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
    first = object_from_json(messages[0], "a message")
    if isinstance(first, dict) and first.get("role", first.get("from")) == "system":
        if first.get("content", first.get("value")) == system:
            return messages
        raise RowError("has a `system` beside messages that begin with another system message; keep one of them")
    return [{"role": "system", "content": system}, *messages]


def _tools(row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Returns the tools; the list, or each of them, may be given as JSON text."""
    tools = row.get("tools")
    if isinstance(tools, str):
        tools = list_from_json(tools, "`tools`") if tools.strip() else None
    if tools is None or tools == []:
        return None
    if isinstance(tools, list):
        tools = [object_from_json(tool, "one of `tools`") for tool in tools]
    if not are_objects(tools):
        raise RowError(f"`tools` is {kind_of(tools)}; it must be a list of objects, the JSON schemas of functions")
    check_json(tools, "tools")
    return [without_filled_schema(tool) for tool in tools]


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
