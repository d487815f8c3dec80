"""Splits tokenised samples into a prompt and the answer that the model should write.

The answer is the last assistant turn: the last run of tokens that the loss counts, through the token that ends the
turn. The prompt is everything before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Prompt:
    """One question to the model and its reference answer, as token ids."""

    ids: list[int]
    """Tokens of the prompt, which end where the answer begins; at least one."""
    reference: list[int]
    """Tokens of the reference answer and the token that ends the turn; at least one."""


def prompts_of(samples: "Dataset") -> Iterator[Prompt]:
    """Yields the prompt of each sample. Raises ValueError for a sample that the loss counts from its start."""
    for sample in samples:
        yield split_prompt(sample["input_ids"], sample["counted"])


def split_prompt(ids: Sequence[int], counted: Sequence[bool]) -> Prompt:
    """Returns the prompt of a sample; `counted` says of each token whether the loss counts its prediction, (tokens,).

    Raises ValueError if there is no prompt: nothing is counted, or everything up to the last counted token is.
    """
    marks = np.asarray(counted, dtype=bool)
    places = np.flatnonzero(marks)
    if not len(places):
        raise ValueError("nothing of the sample is an answer")
    end = int(places[-1]) + 1
    before = np.flatnonzero(~marks[:end])
    if not len(before):
        raise ValueError("the sample has no prompt: every token counts")
    start = int(before[-1]) + 1
    return Prompt(list(ids[:start]), list(ids[start:end]))
