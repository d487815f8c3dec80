"""Means with 95% confidence intervals over a few seeds. Pure.

The interval is Student's: mean ± t(n - 1) * s / sqrt(n), with s the standard deviation of the sample. It covers only
the variation between seeds: all runs answer the same questions, and other questions would shift all of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Student's t at 0.975, for 1 to 30 degrees of freedom. More degrees use the value for 30, at most 4% too wide."""
DECIMALS = 9
"""Number of decimals to which differences are rounded, so that rounding errors of interpolation become 0."""


@dataclass(frozen=True)
class Estimate:
    mean: float
    half_width: float | None
    """Half-width of the 95% interval; None if there are fewer than two values or all values are equal.

    Exact match changes in steps of one question, so a few equal values do not make their mean certain.
    """
    count: int
    """Number of values or pairs; 0 for a difference of means without common seeds."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; False without an interval."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def estimate(values: Sequence[float]) -> Estimate | None:
    """Returns the mean and its interval; None if there are no values."""
    if not values:
        return None
    count = len(values)
    if len(set(values)) == 1:
        return Estimate(values[0], None, count)
    t = T_975[min(count - 1, len(T_975)) - 1]
    return Estimate(fmean(values), t * stdev(values) / math.sqrt(count), count)


def paired_difference(
    values: Mapping[tuple[int, ...], float], reference: Mapping[tuple[int, ...], float]
) -> Estimate | None:
    """Returns `values` minus `reference`, paired by seed, which cancels the effect that a seed has on both runs.

    Without common seeds it returns the difference of the means, without an interval. Returns None if one side is empty.
    """
    if not values or not reference:
        return None
    pairs = [round(value - reference[seed], DECIMALS) for seed, value in values.items() if seed in reference]
    if not pairs:
        return Estimate(round(fmean(values.values()) - fmean(reference.values()), DECIMALS), None, 0)
    return estimate(pairs)
