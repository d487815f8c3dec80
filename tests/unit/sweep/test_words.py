"""Keys that an override's dictionary has twice."""

import pytest

from osftx.sweep.words import repeated_keys


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("a={b:1,b:2}", "b"),
        ("+a={c:{b:1,b:2}}", "b"),
        ("a=[{b:1},{b:1,d:2,b:3}]", "b"),
        ("a={b:1,b:2},{b:1}", "b"),
    ],
)
def test_a_repeated_key_is_found_at_any_depth(word: str, key: str) -> None:
    assert list(repeated_keys(["x=1", word])) == [f"{word}: {key} is there more than once; write it once"]


@pytest.mark.parametrize("word", ["a={b:1,c:2}", "a={b:{c:1},d:{c:1}}", "a='{b:1,b:2}'", "a=${b}", "a={", "--flag={"])
def test_other_words_are_left_to_hydra(word: str) -> None:
    assert list(repeated_keys([word])) == []
