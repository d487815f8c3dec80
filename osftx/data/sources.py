"""Read and check a JSONL file of conversations.

Each line is one object, `{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}`.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from osftx.errors import MAX_PROBLEMS_SHOWN, ConfigurationError

ROLES = ("system", "user", "assistant")


class _InvalidLineError(ValueError):
    """What is wrong with one line, what is allowed and what to do."""


def read_conversations(
    path: str | Path, on_bytes: Callable[[int], object] = lambda count: None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield `(line number from 1, messages)` for each conversation, one line in memory at a time.

    Each message has a known `role` and a `content` that is not blank; at least one is of the assistant. Blank
    lines are skipped. Keys beside `messages` are not read (identifiers, sources), except that `tools` must
    not be there.

    Args:
        path: the JSONL file, UTF-8.
        on_bytes: called with the length of each line that was read, for a progress bar.

    Raises:
        ConfigurationError: at the end of the file, with the problems of all lines, or as soon as there are
            MAX_PROBLEMS_SHOWN of them; at once when the file cannot be read or holds no line.
    """
    problems: list[str] = []
    found = False
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                on_bytes(len(line))
                if not line.strip():
                    continue
                found = True
                try:
                    messages = _parse(line)
                except _InvalidLineError as error:
                    problems.append(f"{path}:{number}: {error}")
                    if len(problems) == MAX_PROBLEMS_SHOWN:
                        problems[-1] += f" (reading stopped here, at problem {MAX_PROBLEMS_SHOWN})"
                        break
                else:
                    yield number, messages
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read ({error.strerror}); give a JSONL file"]) from error
    if not found:
        problems.append(f"{path}: is empty; each line must be an object with a list `messages`")
    if problems:
        raise ConfigurationError(problems)


def _parse(line: bytes) -> list[dict[str, Any]]:
    """The messages of one line, checked."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _InvalidLineError(
            f"is not UTF-8 text ({error.reason} at byte {error.start + 1}); save the file as UTF-8"
        ) from error
    except RecursionError as error:
        raise _InvalidLineError("is nested too deeply to be a conversation; each line must be one object") from error
    except json.JSONDecodeError as error:
        raise _InvalidLineError(
            f"is not JSON ({error.msg} at character {error.pos + 1}); each line must be one object"
        ) from error
    if not isinstance(row, dict):
        raise _InvalidLineError(f"is a JSON {_kind(row)}; each line must be an object with a list `messages`")
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        given = f"`messages` is {_kind(messages)}" if "messages" in row else f"has the keys {sorted(row)}"
        raise _InvalidLineError(f"{given}; it must have `messages`, a list of at least one message")
    if row.get("tools"):
        raise _InvalidLineError("has `tools`, which are not supported; remove the conversations that use tools")
    for number, message in enumerate(messages, 1):
        _check_message(number, message)
    if all(message["role"] != "assistant" for message in messages):
        raise _InvalidLineError("has no assistant turn; it needs one, since loss is counted on nothing else")
    return messages


def _check_message(number: int, message: Any) -> None:
    if not isinstance(message, dict):
        raise _InvalidLineError(
            f"message {number} is a JSON {_kind(message)}; it must be an object with role and content"
        )
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise _InvalidLineError(f"message {number} has the role {role!r}; it must be one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise _InvalidLineError(f"message {number} ({role}) has a content that is {_kind(content)}; it must be text")
    if not content.strip():
        raise _InvalidLineError(f"message {number} ({role}) has an empty content; write it or remove the message")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can spell what no text file can hold
        half = content[error.start].encode("unicode_escape").decode()
        raise _InvalidLineError(
            f"message {number} ({role}) holds {half}, half of a character, at character {error.start + 1}; "
            "write the whole character"
        ) from error


def _kind(value: Any) -> str:
    """The JSON name of the value's type."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    return f"empty {names[type(value)]}" if value in ([], {}, "") else names[type(value)]
