"""Ranges of numbers, and the check that reports values outside them."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from omegaconf import MISSING


class Range(NamedTuple):
    words: str
    """Description of the allowed values, which follows `must be` in a message."""
    allows: Callable[[float], bool]
    """Whether a value is allowed. It must be written so that NaN never is."""


def at_least(low: float) -> Range:
    return Range(f"{low:g} or more", lambda value: low <= value < math.inf)


def above(low: float) -> Range:
    return Range(f"above {low:g}", lambda value: low < value < math.inf)


def between(low: float, high: float) -> Range:
    return Range(f"from {low:.10g} to {high:.10g}", lambda value: low <= value <= high)


DECAY = Range("from 0 to below 1", lambda value: 0 <= value < 1)
RATIO = between(0, 1)


def out_of_range(path: str, settings: Any, ranges: Mapping[str, Range], defaults: Any) -> Iterator[str]:
    for key, allowed in ranges.items():
        value = getattr(settings, key)
        if value is not None and not allowed.allows(value):
            default = getattr(defaults, key)
            usual = "null" if default is None else default
            yield f"{path}.{key}={value}: must be {allowed.words}; the default is {usual}"


def is_missing(text: str) -> bool:
    """Returns whether a string is missing: empty after `load.typed`, MISSING in a config that was built in Python."""
    return text in ("", MISSING)
