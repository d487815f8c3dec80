"""Every score against answers whose score is known."""

import pytest

from osftx.config.scores import SCORES
from osftx.evaluation.scorers import SCORERS, contains, exact_match, f1, json_equal, numeric, regex


def test_the_names_of_the_configuration_are_those_that_are_computed() -> None:
    assert tuple(SCORERS) == SCORES


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [("LAX", "LAX", 1), (" LAX\n", "LAX", 1), ("lax", "LAX", 0), ("LAX.", "LAX", 0), ("", "", 1)],
)
def test_exact_match(answer: str, reference: str, score: float) -> None:
    assert exact_match(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("The code is LAX.", "LAX", 1),
        ("the code is lax", "LAX", 1),
        ("New\n  York", "new york", 1),
        ("It is relaxed.", "LAX", 0),  # a part of a word
        ("Rome", "Romeo", 0),
        ("costs 3.50 (all)", "3.50", 1),
        ("C++ is fast", "C++", 1),
        ("The capital is 東京都です。", "東京", 1),
        ("首都是东京。", "东京", 1),
        ("Rom, Rome", "Rome", 1),
        ("Romeo or Rome", "Rome", 1),
    ],
)
def test_contains(answer: str, reference: str, score: float) -> None:
    assert contains(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ('{"b": [1, 2], "a": null}', '{"a": null, "b": [1, 2]}', 1),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 1),
        ('{"a": 1.0}', '{"a": 1}', 1),
        ('{"a": true}', '{"a": 1}', 0),
        ('{"a": 1, "a": 1}', '{"a": 1}', 0),
        ('{"a": [2, 1]}', '{"a": [1, 2]}', 0),
        ('{"a": 1, "b": 2}', '{"a": 1}', 0),
        ("{'a': 1}", '{"a": 1}', 0),
        ("[NaN]", "[1]", 0),
        ("[" * 100_000, "[1]", 0),
        ('Here it is: {"a": 1}', '{"a": 1}', 0),
        ('```JSON\n{"a": 1}\n```', '{"a": 1}', 1),
        ("1e999", "1e300", 0),
    ],
)
def test_json_equal(answer: str, reference: str, score: float) -> None:
    assert json_equal(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"), [("on 2024-05-01", r"\d{4}-\d\d-\d\d", 1), ("on May 1", r"\d{4}", 0)]
)
def test_regex(answer: str, reference: str, score: float) -> None:
    assert regex(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("2 + 2 = 4", "4", 1),
        ("It is 1,234.50 in all.", "1234.5", 1),
        ("-3", "3", 0),
        ("1e3", "1000", 1),
        ("no idea", "4", 0),
        ("4 or 5", "4", 0),
        ("#### 72", "He has 72 apples. #### 72", 1),
        ("5-7", "7", 1),
        ("x=10-3", "3", 1),
        ("on 2024-01-15", "15", 1),
        ("GPT-4", "4", 1),
        ("\N{MINUS SIGN}5", "-5", 1),
        ("\N{MINUS SIGN}5", "5", 0),
        ("it is -5", "-5", 1),
        ("1e999", "4", 0),
        ("about .5", "0.5", 1),
    ],
)
def test_numeric(answer: str, reference: str, score: float) -> None:
    assert numeric(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("The cat sat.", "a cat sat", 1.0),
        ("cat", "cat sat", 2 / 3),
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("東京です", "東京", 2 / 3),
        ("cat cat", "cat", 2 / 3),  # a word counts as often as it occurs
    ],
)
def test_f1(answer: str, reference: str, score: float) -> None:
    assert f1(answer, reference) == pytest.approx(score)


@pytest.mark.parametrize(
    ("name", "reference", "reason"),
    [
        ("contains", "  ", "empty"),
        ("json_equal", "not json", "not JSON"),
        ("json_equal", '{"a": 1, "a": 2}', "repeated"),
        ("regex", "(", "not a regular expression"),
        ("json_equal", "[" * 100_000, "not JSON"),
        ("json_equal", "1e999", "beyond the range"),
        ("numeric", "none", "no number"),
        ("numeric", "1e999", "beyond any number"),
        ("f1", "the", "no words"),
    ],
)
def test_a_reference_that_cannot_be_read_is_an_error_whatever_the_answer(
    name: str, reference: str, reason: str
) -> None:
    for answer in ("", "4", reference):
        with pytest.raises(ValueError, match=reason):
            SCORERS[name](answer, reference)
