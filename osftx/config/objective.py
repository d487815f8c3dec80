"""Objectives of a search: numbers of results.json, named by their paths, each with a better direction.

An objective is one path, or a weighted sum of several, such as `summary.learning_accuracy - 0.5*summary.forgetting`.
Several objectives are compared by Pareto dominance: a job is on the front if no other job is at least as good in all
objectives and better in one.
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any

OBJECTIVE = re.compile(
    r"summary\.(average_accuracy|learning_accuracy|forgetting|backward_transfer)"
    r"|phases\.(?P<phase>\d+)\.(duration_s|tokens|steps|preservation\.(leak_fp32|leak_saved|kept_output_change))"
    r"|retention\.metrics\.(exact_match|loss|token_accuracy)\.(?P<state>\d+)\.(?P<set>\d+)"
    r"|retention\.generated\.values\.(?P<answered>\d+)\.(?P<asked>\d+)"
    r"|retention\.against_base\.(kl_to_base|token_agreement|unchanged_answers)"
    r"\.(?P<compared>\d+)\.(?P<against>\d+)"
    r"|retention\.benchmarks\.values\.(?P<row>\d+)\.(?P<task>\d+)"
)
LOWER_IS_BETTER = re.compile(
    r"summary\.forgetting|phases\..*|retention\.metrics\.loss\..*|retention\.against_base\.kl_to_base\..*"
)


TERM = re.compile(r"\s*(?P<sign>[+-]?)\s*((?P<weight>\d+(\.\d*)?(e[+-]?\d+)?)\s*\*\s*)?(?P<path>[a-z_][a-z0-9_.]*)\s*")


class Direction(Enum):
    maximize = "maximize"
    minimize = "minimize"


def as_list(given: Any) -> list[Any]:
    """Returns objectives, their directions or their values as a list, whether one or a sequence of them is given."""
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def terms(objective: str) -> list[tuple[float, str]]:
    """Returns (weight, path) of each term of an objective. Raises ValueError if it is not a sum of paths."""
    found: list[tuple[float, str]] = []
    place = 0
    while place < len(objective) or not found:
        term = TERM.match(objective, place)
        if term is None or (found and not term["sign"]):
            raise ValueError(f"cannot be read from {objective[place:].strip() or 'its end'!r} on")
        weight = float(term["weight"] or 1.0)
        found.append((-weight if term["sign"] == "-" else weight, term["path"]))
        place = term.end()
    return found


def direction(objective: str) -> Direction:
    """Returns the better direction of an objective.

    Forgetting and loss, and all numbers of `phases` (leak, time, tokens, steps), are minimized; all others are
    maximized. Raises ValueError if the terms of a sum have opposite directions.
    """
    wanted = {
        Direction.minimize if bool(LOWER_IS_BETTER.fullmatch(path)) == (weight >= 0) else Direction.maximize
        for weight, path in terms(objective)
    }
    if len(wanted) > 1:
        raise ValueError("wants more of one thing and less of another at once; give what should be less a minus")
    return wanted.pop()


def value(results: dict[str, Any], objective: str) -> float | None:
    """Returns the value of an objective in results.json; None if a number that it needs is missing."""
    numbers = [(weight, at_path(results, path)) for weight, path in terms(objective)]
    if any(number is None for _, number in numbers):
        return None
    return sum(weight * number for weight, number in numbers if number is not None)


def at_path(results: dict[str, Any], path: str) -> float | None:
    """Returns the number at `path` in results.json; None if there is none."""
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
    """Returns the indices of the rows that no other row dominates.

    They are the Pareto front, or with one objective the best row and its equals.
    """
    costs = [
        [value if towards is Direction.minimize else -value for value, towards in zip(row, directions, strict=True)]
        for row in values
    ]
    return [place for place, cost in enumerate(costs) if not any(_dominates(other, cost) for other in costs)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)
