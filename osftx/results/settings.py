"""The settings of a run that may be somebody else's: references to other settings are followed, resolvers are not.

A resolver such as `${oc.env:NAME}` would answer with the environment of whoever reads the run. It is left as it is
written. References are followed up to a bounded size, as each can stand for several others.
"""

import re
from typing import Any

_NAME = r"[A-Za-z_][\w-]*(?:\.[\w-]+)*"
REFERENCE = re.compile(rf"(?<!\\)\$\{{(\.*)({_NAME})\}}")
"""A reference by its full path, or by leading dots relative to the group that it stands in."""
MOST = 1_000_000
"""Largest size of the settings with all references followed: values, and characters of text."""
LONGEST = 10_000
"""Most characters of a text with interpolations."""
Path = tuple[Any, ...]


def followed(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings as OmegaConf reads them literally: references replaced, everything else escaped.

    A reference to a setting that is not given stays, as the schema may have it. Raises ValueError for references that
    lead back to themselves or grow without end.
    """
    return {key: _escaped(value) for key, value in _Settings(settings).all().items()}


class _Settings:
    def __init__(self, content: dict[str, Any]):
        self.content, self.left = content, MOST

    def all(self) -> dict[str, Any]:
        return dict(self._value(self.content, (), ()))

    def _value(self, value: Any, place: Path, way: tuple[Path, ...]) -> Any:
        self._count(1)
        if isinstance(value, dict):
            return {key: self._value(inner, (*place, key), way) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._value(inner, (*place, str(number)), way) for number, inner in enumerate(value)]
        return self._text(value, place, way) if isinstance(value, str) and "${" in value else value

    def _text(self, text: str, place: Path, way: tuple[Path, ...]) -> Any:
        if len(text) > LONGEST:
            raise ValueError(f"{_dotted(place)}: an interpolation of {len(text)} characters")
        self._count(len(text))
        if (whole := REFERENCE.fullmatch(text)) is not None:
            return self._target(whole, place, way)
        parts = REFERENCE.sub(lambda found: str(self._target(found, place, way)), text)
        self._count(len(parts))
        return parts

    def _target(self, found: re.Match[str], place: Path, way: tuple[Path, ...]) -> Any:
        dots, name = len(found[1]), tuple(found[2].split("."))
        target = (*place[: len(place) - dots], *name) if dots else name
        if target in way:
            raise ValueError(f"{_dotted(place)}: {found[0]} leads back to itself")
        value: Any = self.content
        for key in target:
            if not isinstance(value, dict) or key not in value:
                return found[0]
            value = value[key]
        return self._value(value, target, (*way, target))

    def _count(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError("its references to other settings grow without end")


def _escaped(value: Any) -> Any:
    """Returns a value with all interpolations escaped, but for a reference to a setting that the schema may have."""
    if isinstance(value, dict):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    if isinstance(value, str) and "${" in value and REFERENCE.fullmatch(value) is None:
        return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", value)
    return value


def _dotted(place: Path) -> str:
    return ".".join(map(str, place))
