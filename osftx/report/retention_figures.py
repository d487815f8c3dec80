"""The figures of learning and retention: `retention`, and `curves` and `set_curves` from evaluation during phases."""

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from osftx.config.phases import BASE_STATE
from osftx.report.curves import SetCurve, TradeOff, set_curves, trade_offs
from osftx.report.drawing import WIDTH_INCHES, Drawing, add_legend, colour, marker, new_figure
from osftx.results.run_record import RunRecord

ACCURACIES = ("exact_match", "acc_norm", "acc", "f1", "pass@1", "mc1", "mc2")
"""Metrics of the lm-evaluation-harness that are accuracies: from 0 to 1, higher is better. Brier scores are not."""
LONGEST_LEVEL_NAME = 9
"""Largest number of characters of a column name that is written horizontally; longer names are slanted."""
MOST_MARKED = 30
"""Largest number of points of a curve with full-size markers; with more points the markers are small."""
MARGIN = 0.03
"""Margin of the axes beyond 0 and 1, so that a marker on the edge is drawn whole."""


def retention_drawings(run: RunRecord) -> Iterator[Drawing]:
    """Yields the figures for which the run has data."""
    if run.retention["sets"]:
        text = "Exact match on each evaluation set (columns) at each state of the model (rows)."
        if _accuracies(run):
            text += " Right of the white line: scores of generated answers, and benchmarks by their own metrics."
        yield Drawing("retention", "What was learned and kept", text, heat_map(run))
    if measured := trade_offs(run):
        text = (
            "Along the x axis the exact match on what the phase teaches, along the y axis that on everything taught "
            "before; hollow at step 0, then each measurement. Up and to the right is better. "
            + _in_words(run, measured)
        )
        yield Drawing("curves", "Kept against learned", text, kept_against_learned(run, measured))
    if curves := set_curves(run):
        text = "Exact match on each evaluation set during the phases, in the colour of the phase that teaches it."
        yield Drawing("set_curves", "Every set on the way", text, over_steps(run, curves))


def heat_map(run: RunRecord) -> Figure:
    """Returns the heat map of exact match, states by sets, from 0 to 1, with generated answers and benchmarks beside
    it."""
    sets, states = run.retention["sets"], run.retention["states"]
    others = _accuracies(run)
    beside = zip(*others.values(), strict=True) if others else [()] * len(states)
    values = [[*row, *more] for row, more in zip(run.retention["metrics"]["exact_match"], beside, strict=True)]
    columns = [*sets, *others]
    figure, axes = new_figure(max(WIDTH_INCHES, 1.8 + 0.8 * len(columns)), 1.0 + 0.4 * len(states))
    known = [[float("nan") if value is None else value for value in row] for row in values]
    image = axes.imshow(known, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            ink = "black" if value is None or value > 0.5 else "white"
            text = "-" if value is None else f"{value:.3f}"
            axes.text(x, y, text, ha="center", va="center", color=ink)
    if others:
        axes.axvline(len(sets) - 0.5, color="white", linewidth=4)
    slanted = any(len(name) > LONGEST_LEVEL_NAME for name in columns)
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks(range(len(columns)), columns, **turned)
    axes.set_yticks(range(len(states)), [state if i == 0 else f"after {state}" for i, state in enumerate(states)])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    label = "accuracy" if others else "exact match"
    figure.colorbar(image, ax=axes, label=label).outline.set_visible(False)
    return figure


def kept_against_learned(run: RunRecord, measured: list[TradeOff]) -> Figure:
    """Returns the figure of retention against learning, with one line per phase; the first point of each is hollow."""
    figure, axes = new_figure(WIDTH_INCHES, 4.0)
    for path in measured:
        look: dict[str, Any] = {"color": colour(path.place), "marker": marker(path.place)}
        size = 5 if len(path.kept) <= MOST_MARKED else 2.5
        label = run.phases[path.place].label
        axes.plot(path.learned, path.kept, linewidth=1.3, markersize=size, label=label, clip_on=False, **look)
        first = path.learned[:1], path.kept[:1]
        axes.plot(*first, linestyle="", markersize=8, markerfacecolor="white", zorder=3, clip_on=False, **look)
    axes.set_xlabel("exact match on what the phase teaches")
    axes.set_ylabel("exact match on what was taught before")
    axes.set_xlim(-MARGIN, 1 + MARGIN)
    axes.grid()
    _accuracy_axis(axes)
    add_legend(figure)
    return figure


def over_steps(run: RunRecord, curves: list[SetCurve]) -> Figure:
    """Returns the exact match of every set over the optimizer steps of all phases.

    Sets that the same phase teaches share its colour and differ in marker and dash.
    """
    names = list(dict.fromkeys(curve.set_name for curve in curves))
    teachers = run.phase_names
    figure, axes = new_figure(WIDTH_INCHES, 3.4)
    for curve in curves:
        number, teacher = names.index(curve.set_name), run.taught_in.get(curve.set_name, BASE_STATE)
        first = next(other for other in curves if other.set_name == curve.set_name)
        axes.plot(
            curve.steps,
            curve.exact_match,
            color=colour(teachers.index(teacher)) if teacher in teachers else "black",
            marker=marker(number),
            linestyle=["-", "--", ":", "-."][number % 4],
            linewidth=1.3,
            markersize=4 if len(curve.steps) <= MOST_MARKED else 2,
            label=curve.set_name if curve is first else None,
            clip_on=False,
        )
    mark_phases(axes, run)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("exact match")
    axes.grid(axis="y")
    _accuracy_axis(axes)
    add_legend(figure)
    return figure


def mark_phases(axes: Axes, run: RunRecord) -> None:
    """Draws a dotted line at the end of each phase."""
    for phase, begin in zip(run.phases, run.steps_before, strict=True):
        if phase.last_step:
            axes.axvline(begin + phase.last_step, color="#999999", linewidth=0.8, linestyle=":")


def _accuracy_axis(axes: Axes) -> None:
    axes.set_ylim(-MARGIN, 1 + MARGIN)


def _accuracies(run: RunRecord) -> dict[str, list[float | None]]:
    """Returns the columns of the generated answers, and of the benchmarks that are accuracies.

    Perplexities, for example, are only in the table.
    """
    found = {
        f"{name} (generated)": [row[place] for row in run.generated["values"]]
        for place, name in enumerate(run.generated["sets"])
    }
    for place, task in enumerate(run.benchmarks["tasks"]):
        column = [row[place] for row in run.benchmarks["values"]]
        metric = run.benchmarks["metrics"][task].partition(",")[0]
        if metric in ACCURACIES and all(value is None or 0 <= value <= 1 for value in column):
            found[task] = column
    return found


def _in_words(run: RunRecord, measured: list[TradeOff]) -> str:
    """Returns the first and the last point of each phase as text."""
    return " ".join(
        f"{run.phases[path.place].label}: learned {path.learned[0]:.3f} to {path.learned[-1]:.3f}, "
        f"kept {path.kept[0]:.3f} to {path.kept[-1]:.3f}."
        for path in measured
    )
