"""The arguments of tool calls, which some data keeps as objects and other data as JSON text.

Templates differ, too: most write an object with `tojson` or walk over its items, a few expect the text. The form that
is given is tried first; if the template does not write it as it stands, the other form is. A conversation has one form
in everything that is made of it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from osftx.data.chat.conversation import Conversation
from osftx.data.chat.tokenizer import ConversationError
from osftx.data.json_text import RowError, parse_json

T = TypeVar("T")


def in_accepted_form(conversation: Conversation, make: Callable[[Conversation], T]) -> T:
    """Returns what `make` makes of the conversation in the first form of its arguments that it accepts.

    Raises:
        ConversationError: it accepts none; the reason is that of the form that is given.
    """
    refusal: ConversationError | None = None
    for messages in _forms(conversation.messages):
        try:
            return make(replace(conversation, messages=messages))
        except ConversationError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _forms(messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yields the messages with the arguments of their tool calls as given, then as objects, then as JSON text.

    A form that equals an earlier one is left out.
    """
    yield messages
    for form in (_as_object, _as_text):
        changed = [_with_arguments(message, form) for message in messages]
        if changed != messages:
            yield changed


def _with_arguments(message: dict[str, Any], form: Callable[[Any], Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [_call(call, form) for call in calls]}


def _call(call: Any, form: Callable[[Any], Any]) -> Any:
    if not isinstance(call, Mapping):
        return call
    if isinstance(function := call.get("function"), Mapping):
        return {**call, "function": _call(function, form)}
    return {**call, "arguments": form(call["arguments"])} if "arguments" in call else call


def _as_object(arguments: Any) -> Any:
    """Returns the object that the text stands for, no arguments for a blank text; anything else as it is."""
    if not isinstance(arguments, str):
        return arguments
    if not arguments.strip():
        return {}
    try:
        parsed = parse_json(arguments)
    except RowError:
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _as_text(arguments: Any) -> Any:
    if isinstance(arguments, str) and not arguments.strip():
        return "{}"
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments
