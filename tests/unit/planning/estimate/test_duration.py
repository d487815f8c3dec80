"""Seconds from a pace, and how they are told."""

import pytest

from osftx.planning.estimate.duration import Pace, duration
from osftx.planning.show_plan import _time


def test_each_part_follows_from_its_pace() -> None:
    pace = Pace(start_s=10.0, training_s_per_token=0.5, forward_s_per_token=0.1, saving_s=3.0)
    found = duration(pace, trained_tokens=1000, measured_tokens=200)
    assert (found.start, found.training, found.measuring, found.saving) == (10.0, 500.0, 20.0, 3.0)
    assert found.total == 533.0


@pytest.mark.parametrize(
    "seconds, words",
    [
        (None, "-"),
        (0.4, "less than 1 s"),
        (59.4, "about 59 s"),
        (59.6, "about 1 min 0 s"),
        (3599.6, "about 1 h 0 min"),
        (90061, "about 25 h 1 min"),
    ],
)
def test_seconds_in_words(seconds: float | None, words: str) -> None:
    assert _time(seconds) == words
