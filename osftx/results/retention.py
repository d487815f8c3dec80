"""The retention table, with every evaluation set (columns) at every state of the run (rows), and its summary figures.

Pure. `a[i][j]` is the accuracy (exact match) on set j at state i, `l(j)` the state right after set j was taught.
- average accuracy: mean over j of a[T][j], T the last state. Lopez-Paz and Ranzato, "Gradient Episodic Memory"
  (arXiv 1706.08840), section 3.
- backward transfer: mean over the sets taught before T of a[T][j] - a[l(j)][j]. Same source.
- learning accuracy: mean over the sets taught after the first row of a[l(j)][j]. Riemer et al., "Learning to Learn
  without Forgetting by Maximizing Transfer and Minimizing Interference" (arXiv 1810.11910).
- forgetting: mean over the sets of backward transfer of max over l(j) <= i < T of a[i][j] - a[T][j]. Chaudhry et al.,
  "Riemannian Walk" (arXiv 1801.10112), section 3.1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

METRICS = ("exact_match", "loss", "token_accuracy")
FIGURES = ("average_accuracy", "learning_accuracy", "forgetting", "backward_transfer")

Matrix = list[list[float]]


def table(states: Sequence[str], sets: Sequence[str], measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the `retention` entry of `results.json`; `measured[state][set]` holds the metrics."""
    return {
        "sets": list(sets),
        "states": list(states),
        "metrics": {
            metric: [[measured[state][name][metric] for name in sets] for state in states] for metric in METRICS
        },
    }


def summary(accuracy: Matrix, taught_at: Sequence[int]) -> dict[str, float | None]:
    """Returns the summary figures by name; None for a figure that has nothing to average.

    `taught_at[j]` is the row of the state right after set j was taught.
    """
    last = len(accuracy) - 1
    if last < 0 or not taught_at:
        return dict.fromkeys(FIGURES)
    final = accuracy[last]
    earlier = [(j, row) for j, row in enumerate(taught_at) if row < last]
    best = {j: max(accuracy[i][j] for i in range(row, last)) for j, row in earlier}
    return {
        "average_accuracy": _mean(final),
        "learning_accuracy": _mean([accuracy[row][j] for j, row in enumerate(taught_at) if row > 0]),
        "forgetting": _mean([best[j] - final[j] for j, _ in earlier]),
        "backward_transfer": _mean([final[j] - accuracy[row][j] for j, row in earlier]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
