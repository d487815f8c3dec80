"""Checks the messages of a conversation and brings them into the form that chat templates read."""

from collections.abc import Mapping
from typing import Any

from osftx.config.schema import MESSAGE_ROLES, TrainOn
from osftx.data.json_text import RowError, check_json, kind_of, list_from_json, object_from_json
from osftx.data.row_fields import MESSAGE_FLAGS, is_empty, is_trained

MESSAGE_KEYS = ("role", "content", "tool_calls", "reasoning_content", "train", "name", "tool_call_id")
TEXT_KEYS = ("reasoning_content", "name", "tool_call_id")
ROLE_NAMES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system",
              "tool": "tool", "observation": "tool"}  # fmt: skip
"""Roles by the names that published data has for them."""


def named(message: Any, names: Mapping[str, str]) -> Any:
    """Returns the message with the role that its role's name stands for."""
    role = message.get("role") if isinstance(message, dict) else None
    return {**message, "role": names.get(role, role)} if isinstance(role, str) else message


def without_empty_end(messages: list[Any], train_on: TrainOn) -> list[Any]:
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
            keys = ", ".join(sorted(key for key, value in part.items() if not is_empty(value)))
            raise RowError(
                f"{here} has a part of the type {part['type']!r} with the keys {keys}; the model is given text alone: "
                "a part must have the type 'text', and its `text` alone"
            )
    return "".join(part["text"] for part in content)


def _is_text_part(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        return False
    return all(is_empty(value) for key, value in part.items() if key not in ("type", "text"))


def checked_message(number: int, message: Any) -> dict[str, Any]:
    """Returns the message without its null entries, after checking it.

    Unknown keys are rejected rather than dropped silently, since a template may read any key, unless they are empty.
    Raises RowError.
    """
    if not isinstance(message, dict):
        raise RowError(f"message {number} is a JSON {kind_of(message)}; it must be an object with role and content")
    role = message.get("role")
    if role not in MESSAGE_ROLES:
        to_map = f", or set data.roles={{{role}: assistant}}" if isinstance(role, str) and role.strip() else ""
        raise RowError(f"message {number} has the role {role!r}; it must be one of {', '.join(MESSAGE_ROLES)}{to_map}")
    here = f"message {number} ({role})"
    content, calls = _content(here, message.get("content")), _calls(here, message.get("tool_calls"))
    if calls and not (role == "assistant" and are_objects(calls)):
        given = kind_of(calls)
        raise RowError(f"{here} has `tool_calls` that are {given}; an assistant turn may have a list of objects")
    check_json(calls, "tool_calls", f" of {here}")
    if not isinstance(content, str) and not (content is None and calls):
        raise RowError(f"{here} has a content that is {kind_of(content)}; it must be text")
    if not (content or "").strip() and not calls:
        raise RowError(f"{here} has an empty content; write it or remove the message")
    for key in TEXT_KEYS:
        if message.get(key) is not None and not isinstance(message[key], str):
            raise RowError(f"{here} has a `{key}` that is {kind_of(message[key])}; it must be text")
    known = (*MESSAGE_KEYS, *MESSAGE_FLAGS)
    if unknown := sorted(key for key, value in message.items() if key not in known and not is_empty(value)):
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
    calls = list_from_json(calls, f"`tool_calls` of {here}")
    return (
        [object_from_json(call, f"one of `tool_calls` of {here}") for call in calls]
        if isinstance(calls, list)
        else calls
    )


def are_objects(values: Any) -> bool:
    """Returns whether the value is a list of at least one object, and of nothing else."""
    return isinstance(values, list) and bool(values) and all(isinstance(value, dict) for value in values)
