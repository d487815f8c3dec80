"""Checks that a chat template writes everything that a message contains.

A template that does not support tools or reasoning omits them silently: the model would be trained on turns that were
never intended, or on answers to input that it has not seen.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from osftx.data.chat.tokenizer import ChatTokenizer, ConversationError, Message, Tools

MARK = "".join(map(chr, (0xF9C05, 0x10E7B2, 0xF64FA)))  # private-use characters, as in `turns`


def check_turn_is_written(tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools, turn: str) -> None:
    """Checks that `turn`, the text of the last message, holds everything of that message, which is the assistant's.

    Raises:
        ConversationError: the template leaves out or changes a part of it.
    """
    number, message = len(messages), messages[-1]
    texts = [key for key in ("reasoning_content", "content") if message.get(key)]
    calls = message.get("tool_calls") or []
    for key in texts:
        _check(number, key, message[key], turn)
    _check_arguments([message], turn, number - 1)
    for call in calls:
        for value in _call_values(_function(call, number), number):
            _check(number, "tool_calls", value, turn)
    if texts == ["content"] and not calls:
        return
    # A short text may occur in the turn by chance although the template omits it; the marks cannot.
    marked = {**message, **{key: MARK + key for key in texts}, "tool_calls": [_named(call) for call in calls] or None}
    written = tokenizer.render([*messages[:-1], marked], tools)
    for key in texts:
        _check(number, key, MARK + key, written)
    if written.count(MARK + "name") < len(calls):
        raise _unwritten(number, "tool_calls")


def check_is_written(tokenizer: ChatTokenizer, messages: Sequence[Message], tools: Tools, text: str) -> None:
    """Checks that the text of the conversation holds the tools and the contents of all messages but the assistant's.

    Raises:
        ConversationError: the template leaves out or changes one of them.
    """
    others = [i for i, message in enumerate(messages) if message["role"] != "assistant" and message.get("content")]
    marks = {i: f"{MARK}{i}." for i in others}
    marked = [{**message, "content": marks[i]} if i in marks else message for i, message in enumerate(messages)]
    written = tokenizer.render(marked, tools)
    for i in others:
        key = f"content ({messages[i]['role']})"
        _check(i + 1, key, messages[i]["content"], text)
        _check(i + 1, key, marks[i], written)
    _check_arguments(messages, text)
    if tools and tokenizer.render(messages) == text:
        raise ConversationError("the chat template does not write the tools; use another template, or remove them")


def check_content_is_written(number: int, message: Message, text: str) -> None:
    """Checks that the text holds the content of a message. Raises ConversationError if it does not."""
    if message.get("content"):
        _check(number, "content", message["content"], text)


def _check_arguments(messages: Sequence[Message], text: str, first: int = 0) -> None:
    """Checks the forms in which a text writes the arguments of the tool calls of `messages`.

    A template that quotes arguments given as text with `tojson`, or writes an object in Python's notation where it
    expects a text, writes calls as no model is trained to write them. What contents say does not count.

    Args:
        messages: the messages that the text shows.
        text: what the template has written of them.
        first: index of the first of the messages in the conversation.

    Raises:
        ConversationError: arguments are written in one of these forms.
    """
    contents = [message["content"] for message in messages if isinstance(message.get("content"), str)]
    for i, message in enumerate(messages, first):
        for call in message.get("tool_calls") or []:
            function = call.get("function", call) if isinstance(call, Mapping) else {}
            function = function if isinstance(function, Mapping) else {}
            arguments = function.get("arguments")
            wrong, given, other = _misread(arguments)
            if any(text.count(form) > sum(content.count(form) for content in contents) for form in wrong):
                raise ConversationError(
                    f"message {i + 1}: the chat template writes the arguments of {function.get('name')} {given}; give "
                    f"them as {other}"
                )


def _misread(arguments: Any) -> tuple[list[str], str, str]:
    """Returns the forms that no call has, how they come about, and the form to give the arguments in instead."""
    if isinstance(arguments, str):
        quoted = {
            json.dumps(one, ensure_ascii=ascii) for one in (arguments, arguments.strip()) for ascii in (False, True)
        }
        return sorted(quoted), "as a quoted text, since they are given as text", "an object"
    if isinstance(arguments, Mapping) and arguments:
        return [str(arguments)], "in Python's notation, since they are given as an object", "JSON text"
    return [], "", ""


def _check(number: int, key: str, value: Any, text: str) -> None:
    if not any(form in text for form in _forms(value)):
        raise _unwritten(number, key)


def _unwritten(number: int, key: str) -> ConversationError:
    return ConversationError(
        f"message {number}: the chat template does not write {key} as it stands, it leaves out or changes a part; "
        "write it as the template does, or use another template"
    )


def _forms(value: Any) -> list[str]:
    """Returns the forms in which a template may write a value: as it is, or as JSON."""
    if value is None:
        return [""]
    if isinstance(value, str):
        value = value.strip()
        return [value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]]
    return [json.dumps(value), str(value)]


def _function(call: Any, number: int) -> Mapping[str, Any]:
    """Returns the function of a tool call, which some data writes into the call itself.

    Raises ConversationError if there is none with a name.
    """
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ConversationError(f"message {number}: a tool call has no function with a name; write function.name")
    return function


def _named(call: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the call with its function's name replaced by a mark."""
    if "function" in call:
        return {**call, "function": {**call["function"], "name": MARK + "name"}}
    return {**call, "name": MARK + "name"}


def _call_values(function: Mapping[str, Any], number: int) -> Iterator[Any]:
    """Yields the values that the turn must contain: the function's name, the arguments' names and their values.

    Raises ConversationError if the arguments are a blank text, which no template can write as arguments.
    """
    yield function["name"]
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        yield from _leaves(arguments)
    elif arguments.strip():
        yield arguments
    else:
        raise ConversationError(f"message {number}: the arguments of {function['name']} are a blank text; write {{}}")


def _leaves(value: Any) -> Iterator[Any]:
    """Yields the keys and the single values in nested objects and lists."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value
