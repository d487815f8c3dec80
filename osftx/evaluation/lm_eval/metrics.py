"""Which of a task's metrics stands in the retention table."""

import math
from collections.abc import Mapping
from typing import Any

PREFERRED = ("exact_match", "acc_norm", "acc")
"""The first of them that the task has; otherwise the task's first metric. Of several filters (as of gsm8k, strict and
flexible) the first one."""
NO_FILTER = "none"


def main_metric(figures: Mapping[str, Any]) -> tuple[str, float]:
    """(metric, value) of a task; `figures` is what the harness gives, by `metric,filter`.

    The metric is named with its filter where the task has one. Raises ValueError where there is none, or no number.
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
