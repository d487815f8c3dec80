"""Parses JSON text strictly: what JSON cannot say, or what a reader would have to guess, is an error."""

import json
from math import isfinite, isinf
from typing import Any, NoReturn


class RowError(ValueError):
    """Raised for an invalid row; the message says what is wrong, what is allowed and what to do, without the place."""


def parse_json(text: str) -> Any:
    """Returns the value that a JSON text stands for.

    Raises:
        RowError: it is no JSON; it is nested too deeply; it holds half a character, a number beyond a float's range or
            an object with the same key twice.
    """
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:  # JSON escapes can encode half of a character, which UTF-8 cannot
            json.dumps(value, ensure_ascii=False).encode()
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
    return value


def list_from_json(value: Any, what: str) -> Any:
    """Returns the value; a text that begins like a JSON list is parsed, since some data keeps lists as text.

    Raises RowError, which names the value as `what`, if it cannot be parsed.
    """
    return _from_text(value, what) if isinstance(value, str) and value.lstrip().startswith("[") else value


def object_from_json(value: Any, what: str) -> Any:
    """Returns the value; a text that begins like a JSON object is parsed. Raises RowError as `list_from_json`."""
    return _from_text(value, what) if isinstance(value, str) and value.lstrip().startswith("{") else value


def _from_text(text: str, what: str) -> Any:
    try:
        return parse_json(text)
    except RowError as error:
        raise RowError(f"{what} is a text that {str(error).partition(';')[0]}; correct it") from error


def check_json(value: Any, name: str, of: str = "") -> None:
    """Raises RowError, with the place in `name`, a field `of` the row or a message, if JSON does not have the value.

    Tables hold dates, decimals, bytes, NaN and others; no template writes them as the model is to write them.
    """
    left = [(value, name)]
    while left:  # not recursive: a row may be nested as deeply as JSON is parsed
        value, place = left.pop()
        if isinstance(value, dict):
            left.extend((inner, f"{place}.{key}") for key, inner in value.items())
        elif isinstance(value, list):
            left.extend((inner, f"{place}[{number}]") for number, inner in enumerate(value))
        elif isinstance(value, float) and not isfinite(value):
            raise RowError(f"has {value} in `{place}`{of}, which JSON does not have; write a number, or null")
        elif value is not None and not isinstance(value, bool | int | float | str):
            raise RowError(
                f"has a {kind_of(value)} in `{place}`{of}, which JSON does not have; write it as text or a number"
            )


def kind_of(value: Any) -> str:
    """Returns the JSON name of the value's type."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    name = names.get(type(value), type(value).__name__)
    return f"empty {name}" if value in ([], {}, "") else name


def _refuse_constant(name: str) -> NoReturn:
    raise RowError(f"holds {name}, which JSON does not have; write a number, or null")


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise RowError(f"holds the number {text[:40]}, which is beyond the range of a float; write it as text")
    return value


def with_single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the object of the pairs, as an `object_pairs_hook`. Raises RowError if a key occurs twice."""
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RowError(f"has the key {twice!r} twice in one object; keep one of them")
    return made


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=with_single_keys)
