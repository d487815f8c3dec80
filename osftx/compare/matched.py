"""What a run has kept when it has learned so much: the maths of matched learning. Pure.

Less learned is less forgotten, so two runs are compared where both have learned the same. Along a phase's curve
*learning* is the mean exact match on what the phase teaches, and *kept* the mean exact match on what was taught before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

TOLERANCE = 1e-9
"""A level is reached up to rounding: the mean of several sets is seldom the number that a user types."""


@dataclass(frozen=True)
class Point:
    """A state of the model: measured, or between two that were."""

    step: float
    """Optimizer steps of the phase; 0 is the state before it."""
    learning: float
    kept: Mapping[str, float]
    """By part (`curves.PARTS`)."""


Curve = Sequence[Point]
"""In the order of the steps."""


def at_level(curve: Curve, level: float) -> Point | None:
    """Where the curve first reaches the level, linearly between the measured states; None if it never does."""
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
    """The most that was learned at any measured state."""
    return max(point.learning for point in curve)


def common_level(curves: Sequence[Curve]) -> float:
    """The highest level of learning that every curve reaches."""
    return min(map(highest, curves))


def mean_curve(curves: Sequence[Curve], part: str, count: int = 101) -> list[tuple[float, float]]:
    """(learning, mean of what is kept) at `count` levels, from where the last curve starts to where the first ends."""
    low, high = max(curve[0].learning for curve in curves), common_level(curves)
    if low > high:
        return []
    levels = [low + (high - low) * place / (count - 1) for place in range(count)]
    reached = [(level, [at_level(curve, level) for curve in curves]) for level in levels]
    return [(level, fmean(point.kept[part] for point in points if point is not None)) for level, points in reached]
