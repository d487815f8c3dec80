"""Nulls that are no values: a table that is written as JSON lines gives every object the keys of all objects.

What JSON schemas and calls cannot mean is taken for such a fill and left out. A null argument that a function declares,
or of which no declaration is known, may be meant: it stays.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MEANT = ("default", "const", "example", "examples", "enum")
"""Keywords of JSON schemas under which a null is a value."""


def without_filled_schema(schema: Any) -> Any:
    """Returns a tool, or a part of it, without the nulls that no JSON schema has."""
    if isinstance(schema, dict):
        return {
            key: value if key in MEANT else without_filled_schema(value)
            for key, value in schema.items()
            if value is not None or key in MEANT
        }
    if isinstance(schema, list):
        return [without_filled_schema(value) for value in schema]
    return schema


def without_filled_arguments(message: dict[str, Any], tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Returns the message, its calls without null entries and without null arguments that their functions lack."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    declared = {name: names for tool in tools or () for name, names in [_declared(tool)] if names is not None}
    return {**message, "tool_calls": [_call(call, declared) for call in calls]}


def _call(call: dict[str, Any], declared: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    call = {key: value for key, value in call.items() if value is not None}
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call(call["function"], declared)}
    name, arguments = call.get("name"), call.get("arguments")
    names = declared.get(name) if isinstance(name, str) else None
    if names is None or not isinstance(arguments, dict):
        return call
    kept = {key: value for key, value in arguments.items() if value is not None or key in names}
    return {**call, "arguments": kept}


def _declared(tool: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any] | None]:
    """Returns the name of a function and the properties of its parameters; None if it may have any others."""
    function = tool.get("function", tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return None, None
    parameters = function.get("parameters")
    if not isinstance(parameters, Mapping) or parameters.get("additionalProperties"):
        return None, None
    properties = parameters.get("properties")
    return function["name"], properties if isinstance(properties, Mapping) else None
