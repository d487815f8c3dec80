"""Means with their 95% intervals, from the few seeds that there are. Pure.

The interval is Student's: mean ± t(n - 1) * s / sqrt(n), s the sample's standard deviation. It covers the seeds alone:
the questions are the same in all runs, and other questions would move all of them.
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
"""Student's t at 0.975, for 1 to 30 degrees of freedom. More take that of 30, which is at most 4% too wide."""
DECIMALS = 9
"""Of a difference: what is left of two equal numbers after interpolation is not one."""


@dataclass(frozen=True)
class Estimate:
    mean: float
    half_width: float | None
    """Of the 95% interval; None with fewer than two values, and where all are equal.

    Exact match moves in steps of one question: that few seeds agree does not make their mean certain.
    """
    count: int
    """Values, or pairs; 0 for a difference of means that no seed pairs."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0; without an interval nothing is excluded."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and interval; None where there is no value."""
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
    """`values` less `reference`, by seed: what a seed does to both runs alike falls out.

    Where no seed is in both it is the difference of the means, without an interval. None where one side is empty.
    """
    if not values or not reference:
        return None
    pairs = [round(value - reference[seed], DECIMALS) for seed, value in values.items() if seed in reference]
    if not pairs:
        return Estimate(round(fmean(values.values()) - fmean(reference.values()), DECIMALS), None, 0)
    return estimate(pairs)
