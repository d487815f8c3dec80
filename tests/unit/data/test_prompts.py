import pytest

from osftx.data.prompts import Prompt, split_prompt


def marks(text: str) -> list[bool]:
    return [letter == "+" for letter in text]


@pytest.mark.parametrize(
    ("counted", "prompt", "reference"),
    [
        ("---++", [0, 1, 2], [3, 4]),
        ("---++-", [0, 1, 2], [3, 4]),  # a newline behind the token that ends the turn
        ("--+--++--", [0, 1, 2, 3, 4], [5, 6]),  # the last of several turns
        ("-+", [0], [1]),
    ],
)
def test_the_last_counted_run_is_the_answer(counted: str, prompt: list[int], reference: list[int]) -> None:
    assert split_prompt(range(len(counted)), marks(counted)) == Prompt(prompt, reference)


@pytest.mark.parametrize(("counted", "reason"), [("---", "nothing"), ("++++", "no prompt"), ("++--", "no prompt")])
def test_a_sample_without_prompt_or_answer_is_refused(counted: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        split_prompt(range(len(counted)), marks(counted))
