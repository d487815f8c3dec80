"""Reads JSON and YAML files that may come from somebody else: as plain data, of bounded size, without surprises.

Nothing in a file makes the reader compute more than the file is long: YAML aliases, which can stand for gigabytes, are
refused, as are numbers that are none and nesting that has no end. Control characters, which a terminal would obey, are
replaced by their names where content is shown (`visible`).
"""

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, ClassVar

import yaml

from osftx.utils.console import printable

JSON_BYTES = 1 << 28
"""Largest file of JSON that is read, in bytes; metrics of a million steps are half of it."""
YAML_BYTES = 1 << 22
DEPTH = 50
DIGITS = 19
"""Digits of the largest integer."""
EVENTS = 100_000
"""Most values and brackets of a YAML file."""
INTEGER, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


class PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML as OmegaConf does, which writes it: 1e-5 is a number, a date is text, no key is there twice.

    Interpolations are text: they are not even parsed.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns a mapping. Raises ConstructorError for a key that is there twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, "found a key twice", node.start_mark)
        return dict(super().construct_mapping(node, deep=deep))


PlainLoader.add_implicit_resolver(
    FLOAT, re.compile(r"[-+]?\d+(?:_\d+)*(?:\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file. Raises OSError, or ValueError with the reason if it cannot be read."""
    return _parsed(_text(path, JSON_BYTES), path)


def read_json_lines(path: Path) -> list[Any]:
    """Returns the content of each line of a JSONL file. Raises as `read_json` does."""
    # Only a newline ends a line: texts may have other separators, such as U+2028.
    return [_parsed(line, path) for line in _text(path, JSON_BYTES).split("\n") if line]


def read_yaml(path: Path) -> Any:
    """Returns the content of a YAML file, interpolations and control characters as they are.

    Raises OSError, or ValueError with the reason if it cannot be read.
    """
    text = _text(path, YAML_BYTES)
    try:
        problem = _unlike_a_run(text)
        if problem is None:
            return {} if (content := yaml.load(text, Loader=PlainLoader)) is None else content
    except (yaml.YAMLError, ValueError) as error:
        problem = f"is not YAML: {' '.join(str(error).split())}"
    raise ValueError(f"{path}: {problem}")


def _unlike_a_run(text: str) -> str | None:
    """Returns what YAML has that no run writes, and that may take long to compute; None if it has nothing such.

    Raises YAMLError.
    """
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=PlainLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if number >= EVENTS:
            return f"has more than {EVENTS} values and brackets"
        if depth > DEPTH:
            return f"is nested more than {DEPTH} deep"
        if isinstance(event, yaml.AliasEvent):
            return f"has an alias (*{event.anchor}), which no run writes"
        if getattr(event, "tag", None) is not None:
            return f"has a tag ({event.tag}), which no run writes"
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and _is_endless(event.value):
            return f"{event.value[:DIGITS]} is no number"
    return None


def _is_endless(text: str) -> bool:
    """Returns whether a value without quotes is a number that JSON does not have: endless, too long, or to base 60."""
    tag = PlainLoader("").resolve(yaml.ScalarNode, text, (True, False))
    if tag not in (INTEGER, FLOAT):
        return False
    if ":" in text:
        return True
    if tag == INTEGER:
        return len(text.lstrip("+-")) > DIGITS
    return text[-1].isalpha() or not math.isfinite(float(text.replace("_", "")))


def _text(path: Path, most: int) -> str:
    """Returns the text of a regular file: a pipe or a device may have no end."""
    with open(path, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path}: is no regular file")
        if found.st_size > most:
            raise ValueError(f"{path}: has {found.st_size} bytes, more than the {most} that are read")
        try:
            text = file.read(most + 1)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not UTF-8") from error
    if len(text) > most:
        raise ValueError(f"{path}: has more than the {most} characters that are read")
    return text


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
        return printable(value)
    if isinstance(value, dict):
        return {visible(key, path, depth + 1): visible(inner, path, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [visible(inner, path, depth + 1) for inner in value]
    return value
