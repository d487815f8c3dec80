"""What a search goes by: numbers of results.json, named by their paths, each with the direction that is better.

Several objectives are compared by Pareto dominance: a job is on the front when no other is at least as good in all of
them and better in one.
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any

OBJECTIVE = re.compile(
    r"summary\.(average_accuracy|learning_accuracy|forgetting|backward_transfer)"
    r"|phases\.(?P<phase>\d+)\.(duration_s|tokens|steps|preservation\.(leak_fp32|leak_saved))"
    r"|retention\.metrics\.(exact_match|loss|token_accuracy)\.(?P<state>\d+)\.(?P<set>\d+)"
)
LOWER_IS_BETTER = re.compile(r"summary\.forgetting|phases\..*|retention\.metrics\.loss\..*")


class Direction(Enum):
    maximize = "maximize"
    minimize = "minimize"


def as_list(given: Any) -> list[Any]:
    """Objectives, their directions and their values come alone, or in a list where there are several."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def direction(path: str) -> Direction:
    """What is better: less of forgetting, loss, leak, time, tokens and steps; more of everything else."""
    return Direction.minimize if LOWER_IS_BETTER.fullmatch(path) else Direction.maximize


def at_path(results: dict[str, Any], path: str) -> float | None:
    """The number at `path` in results.json; None where there is none."""
    value: Any = results
    for key in path.split("."):
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            return None
    return value if isinstance(value, int | float) else None


def best(values: Sequence[Sequence[float]], directions: Sequence[Direction]) -> list[int]:
    """The places that no other place dominates: the Pareto front, or with one objective the best and its equals."""
    costs = [
        [value if towards is Direction.minimize else -value for value, towards in zip(row, directions, strict=True)]
        for row in values
    ]
    return [place for place, cost in enumerate(costs) if not any(_dominates(other, cost) for other in costs)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)
