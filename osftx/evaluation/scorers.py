"""Scores of a generated answer against the reference answer of its sample, 0 (wrong) to 1 (right). Pure.

`contains` and `f1` ignore case and white space; `f1` is the word overlap of SQuAD (Rajpurkar et al., arXiv 1606.05250,
section 6.1).
"""

import json
import math
import re
import string
from collections import Counter
from collections.abc import Callable
from typing import Any

Scorer = Callable[[str, str], float]
"""A function of an answer and its reference that returns 0 to 1. It raises ValueError for a reference that it cannot
read, whatever the answer is."""

FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL)
"""A fenced block of Markdown, in which many models write JSON."""
NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+(?:[eE][-+]?\d+)?")
ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
RELATIVE_TOLERANCE = 1e-6


def exact_match(answer: str, reference: str) -> float:
    """Returns whether answer and reference are the same text, apart from white space around them."""
    return float(answer.strip() == reference.strip())


def contains(answer: str, reference: str) -> float:
    """Returns whether the answer contains the reference as whole words."""
    wanted = " ".join(reference.casefold().split())
    if not wanted:
        raise ValueError("the reference is empty, and every answer contains it")
    return float(re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", " ".join(answer.casefold().split())) is not None)


def json_equal(answer: str, reference: str) -> float:
    """Returns whether the answer is JSON with the value of the reference.

    The order of keys and white space do not matter. The answer may be a fenced block. An answer that is no JSON scores
    0.
    """
    try:
        wanted = _json(reference)
    except ValueError as error:
        raise ValueError(f"the reference is not JSON ({error})") from error
    block = FENCE.fullmatch(answer.strip())
    try:
        return float(_same(_json(block[1] if block is not None else answer), wanted))
    except (ValueError, RecursionError):
        return 0.0


def regex(answer: str, reference: str) -> float:
    """Returns whether the reference, a regular expression, is found in the answer."""
    try:
        return float(re.search(reference.strip(), answer) is not None)
    except re.error as error:
        raise ValueError(f"the reference is not a regular expression ({error})") from error


def numeric(answer: str, reference: str) -> float:
    """Returns whether the last number of the answer equals the last number of the reference."""
    wanted, found = _last_number(reference), _last_number(answer)
    if wanted is None:
        raise ValueError("the reference has no number")
    return float(found is not None and math.isclose(found, wanted, rel_tol=RELATIVE_TOLERANCE))


def f1(answer: str, reference: str) -> float:
    """Returns the harmonic mean of precision and recall of the answer's words, without articles and punctuation."""
    found, wanted = _words(answer), _words(reference)
    if not wanted:
        raise ValueError("the reference has no words")
    shared = (Counter(found) & Counter(wanted)).total()
    return 2 * shared / (len(found) + len(wanted))


SCORERS: dict[str, Scorer] = {
    scorer.__name__: scorer for scorer in (exact_match, contains, json_equal, regex, numeric, f1)
}


def _json(text: str) -> Any:
    """Returns the value of a JSON text. Raises ValueError for anything else, NaN and repeated keys included."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(found)
        if len(value) < len(found):
            raise ValueError("a key is repeated")
        return value

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)


def _same(one: Any, other: Any) -> bool:
    """Returns whether two JSON values are equal. Python alone takes true for 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _last_number(text: str) -> float | None:
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _words(text: str) -> list[str]:
    return ARTICLES.sub(" ", text.casefold().translate(PUNCTUATION)).split()
