"""Scores of a generated answer against the reference answer of its sample, 0 (wrong) to 1 (right). Pure.

`contains` and `f1` ignore case and white space; `f1` is the word overlap of SQuAD (Rajpurkar et al., arXiv 1606.05250,
section 6.1). In scripts without spaces between words, each character counts as a word.
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

FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
"""A fenced block of Markdown, in which many models write JSON."""
MINUS = "\N{MINUS SIGN}"
NUMBER = re.compile(rf"(?:(?<![\w.)])[-+{MINUS}])?(?:(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
"""A number. A hyphen behind a word or another number (`2024-05-01`, `GPT-4`) is no sign."""
WITHOUT_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua960-\ua97f\uf900-\ufaff\U00020000-\U0003ffff"
"""Ranges of the scripts that write no spaces between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese."""
WORD = re.compile(rf"[{WITHOUT_SPACES}]|[^\s{WITHOUT_SPACES}]+")
BORDERED = re.compile(rf"[^\W{WITHOUT_SPACES}]")
"""A character of a word in a script with spaces."""
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
    text = " ".join(answer.casefold().split())
    starts = (found.start() for found in re.finditer(f"(?={re.escape(wanted)})", text))
    return float(any(_stands_alone(text, (start, start + len(wanted))) for start in starts))


def json_equal(answer: str, reference: str) -> float:
    """Returns whether the answer is JSON with the value of the reference.

    The order of keys and white space do not matter. The answer may be a fenced block. An answer that is no JSON scores
    0.
    """
    try:
        wanted = _json(reference)
    except (ValueError, RecursionError) as error:
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
    if wanted is None or math.isinf(wanted):
        raise ValueError("the reference has no number" if wanted is None else "the reference is beyond any number")
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

    def number(digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            raise ValueError(f"{digits} is beyond the range of a number")
        return value

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_float=number)


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
    return float(found[-1].replace(",", "").replace(MINUS, "-")) if found else None


def _stands_alone(text: str, place: tuple[int, int]) -> bool:
    """Returns whether no word goes on beyond the ends of a place in a text."""
    borders = ((place[0] - 1, place[0]), (place[1] - 1, place[1]))
    inside = range(len(text))
    return not any(
        before in inside and after in inside and BORDERED.match(text[before]) and BORDERED.match(text[after])
        for before, after in borders
    )


def _words(text: str) -> list[str]:
    return WORD.findall(ARTICLES.sub(" ", text.casefold().translate(PUNCTUATION)))
