"""Retention at matched learning: the mathematics of the comparison. Pure.

A run that learns less also forgets less, so two runs are compared at equal learning. Along the curve of a phase,
*learning* is the mean exact match on what the phase teaches, and *kept* is the mean exact match on what was taught
before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

TOLERANCE = 1e-9
"""Tolerance for reaching a level: the mean of several sets seldom equals the number that a user types."""


@dataclass(frozen=True)
class Point:
    """A state of the model, measured or interpolated between two measured states."""

    step: float
    """Optimizer steps of the phase; 0 is the state before it."""
    learning: float
    kept: Mapping[str, float]
    """Mean exact match on what was taught before, by part (`curves.PARTS`)."""


Curve = Sequence[Point]
"""Points in the order of their steps."""


def at_level(curve: Curve, level: float) -> Point | None:
    """Returns the point at which the curve first reaches the level, linearly interpolated between the measured states.

    Returns None if the curve never reaches it.
    """
    for place, point in enumerate(curve):
        if point.learning < level - TOLERANCE:
            continue
        if place == 0:
            return point
        before = curve[place - 1]
        share = min(1.0, (level - before.learning) / (point.learning - before.learning))
        return Point(
            before.step + share * (point.step - before.step),
            before.learning + share * (point.learning - before.learning),
            {part: value + share * (point.kept[part] - value) for part, value in before.kept.items()},
        )
    return None


def highest(curve: Curve) -> float:
    """Returns the highest learning at any measured state."""
    return max(point.learning for point in curve)


def common_level(curves: Sequence[Curve]) -> float:
    """Returns the highest level of learning that every curve reaches."""
    return min(map(highest, curves))


def mean_curve(curves: Sequence[Curve], part: str, count: int = 101) -> list[tuple[float, float]]:
    """Returns (learning, mean of what is kept) at `count` evenly spaced levels.

    The levels run from the highest start of any curve to the highest level that all curves reach. The list is empty if
    the curves do not overlap.
    """
    low, high = max(curve[0].learning for curve in curves), common_level(curves)
    if low > high:
        return []
    levels = [low + (high - low) * place / (count - 1) for place in range(count)]
    reached = [(level, [at_level(curve, level) for curve in curves]) for level in levels]
    return [(level, fmean(point.kept[part] for point in points if point is not None)) for level, points in reached]
