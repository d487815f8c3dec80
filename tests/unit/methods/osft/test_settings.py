"""Rules across the settings of OSFT: each problem with its place, its value and the remedy."""

import math
from typing import Any

import pytest
from valid_config import changed

from osftx.config.schema import OsftConfig
from osftx.methods.osft import settings
from osftx.planning.validate import problems


@pytest.mark.parametrize(
    ("changes", "start", "remedy"),
    [
        (
            {"phases__first__unfreeze_rank_ratio": 1.5},
            "phases.first.unfreeze_rank_ratio=1.5: ",
            "from 0 to 1",
        ),
        ({"phases__first__unfreeze_rank_ratio": math.nan}, "phases.first.unfreeze_rank_ratio=nan: ", "null"),
        (
            {"osft__target_patterns": ["q_proj", "(v"]},
            "osft.target_patterns=(v: not a regular expression",
            "correct",
        ),
        ({"osft__target_patterns": []}, "osft.target_patterns=[]: no targets", "null"),
        ({"osft__subspace": "gradients"}, "osft.subspace=gradients: no such rule", "use one of weights, activations"),
        (
            {"osft__minimum_retention": 0.2},
            "osft.minimum_retention=0.2: not read by osft.rank_allocation=uniform",
            "osft.rank_allocation=layer_importance",
        ),
        (
            {"osft__minimum_retention": -0.1, "osft__rank_allocation": "layer_importance"},
            "osft.minimum_retention=-0.1: must be from 0 to 1",
            "the default is 0.1",
        ),
        ({"preserve__max_tokens": 0}, "preserve.max_tokens=0: must be 1 or more", "the default is 262144"),
    ],
)
def test_one_mistake_is_one_problem_with_path_value_and_remedy(
    changes: dict[str, Any], start: str, remedy: str
) -> None:
    (line,) = problems(changed(**changes))
    assert line.startswith(start)
    assert remedy in line
    assert "\n" not in line


def test_every_check_is_made() -> None:
    checks = {
        value
        for value in vars(settings).values()
        if callable(value) and getattr(value, "__annotations__", {}).keys() == {"config", "return"}
    }
    assert checks - {settings.problems, settings.unread} == set(settings.CHECKS)


def test_what_is_not_read() -> None:
    """By weights nothing is measured, and uniform ranks know no minimum."""
    read = {"osft__subspace": "activations", "osft__rank_allocation": "layer_importance"}
    assert OsftConfig().subspace == "weights"
    assert settings.unread(changed()) == {"preserve", "osft.minimum_retention"}
    assert settings.unread(changed(osft__subspace="activations")) == {"osft.minimum_retention"}
    assert settings.unread(changed(**read)) == set()
