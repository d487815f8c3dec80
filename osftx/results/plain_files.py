"""Reads JSON and YAML files that may come from somebody else: as plain data, of bounded size, without surprises.

Nothing in a file makes the reader compute more than the file is long: YAML aliases, which can stand for gigabytes, are
refused, as are numbers that are none and nesting that has no end. Control characters, which a terminal would obey, are
replaced by their names where content is shown (`visible`).
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

JSON_BYTES = 1 << 28
"""Largest file of JSON that is read, in bytes; metrics of a million steps are half of it."""
YAML_BYTES = 1 << 22
DEPTH = 50
DIGITS = 19
"""Digits of the largest integer."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file. Raises OSError, or ValueError with the reason if it cannot be read."""
    return _parsed(_text(path, JSON_BYTES), path)


def read_json_lines(path: Path) -> list[Any]:
    """Returns the content of each line of a JSONL file. Raises as `read_json` does."""
    # Only a newline ends a line: texts may have other separators, such as U+2028.
    return [_parsed(line, path) for line in _text(path, JSON_BYTES).split("\n") if line]


def read_yaml(path: Path) -> Any:
    """Returns the content of a YAML file, interpolations and control characters as they are.

    Raises OSError, ValueError or YAMLError.
    """
    text = _text(path, YAML_BYTES)
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"{path}: has an alias (*{event.anchor}), which no run writes")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise ValueError(f"{path}: is nested more than {DEPTH} deep")
    return OmegaConf.to_container(OmegaConf.create(text))


def _text(path: Path, most: int) -> str:
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path}: has {size} bytes, more than the {most} that are read")
    return path.read_text(encoding="utf-8")


def _parsed(text: str, path: Path) -> Any:
    try:
        content = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_bounded)
    except RecursionError as error:
        raise ValueError(f"{path}: is nested more than {DEPTH} deep") from error
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return visible(content, path)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(digits: str) -> float:
    return value if math.isfinite(value := float(digits)) else _refuse(digits[:20])


def _bounded(digits: str) -> int:
    return int(digits) if len(digits) <= DIGITS else int(_refuse(f"{digits[:DIGITS]}..."))


def visible(value: Any, path: Path, depth: int = 0) -> Any:
    """Returns the content of the file `path` with the names of control characters in their place. Raises ValueError."""
    if depth > DEPTH:
        raise ValueError(f"{path}: is nested more than {DEPTH} deep")
    if isinstance(value, str):
        return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    if isinstance(value, dict):
        return {visible(key, path, depth + 1): visible(inner, path, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [visible(inner, path, depth + 1) for inner in value]
    return value
