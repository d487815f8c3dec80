"""Chooses which metric of a task is shown in the retention table."""

import math
from collections.abc import Mapping
from typing import Any

PREFERRED = ("exact_match", "acc_norm", "acc")
"""Preferred metrics. The first one that the task has is chosen, otherwise the task's first metric; of several filters
(gsm8k has strict and flexible ones) the first is chosen."""
NO_FILTER = "none"


def main_metric(figures: Mapping[str, Any]) -> tuple[str, float]:
    """Returns (metric, value) of a task; `figures` are the harness's results, by `metric,filter`.

    The name of the metric includes its filter, if it has one. Raises ValueError if there is no metric, or if its value
    is not finite.
    """
    found: dict[str, list[tuple[str, Any]]] = {}
    for key, value in figures.items():
        metric, comma, name = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
            found.setdefault(metric, []).append((name, value))
    if not found:
        raise ValueError("the harness gave no metric for it")
    metric = next((metric for metric in PREFERRED if metric in found), next(iter(found)))
    name, value = found[metric][0]
    if not math.isfinite(value):
        raise ValueError(f"its {metric} is {value}")
    return metric if name == NO_FILTER else f"{metric},{name}", float(value)
