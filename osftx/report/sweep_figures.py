"""The figures of a sweep: the objectives job by job and by setting, and the importance of the settings.

Jobs are blue circles and the best ones are vermilion diamonds, so that they differ in both colour and shape.
"""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from osftx.report.drawing import (
    PHASE_COLOURS,
    WIDTH_INCHES,
    Drawing,
    Picture,
    add_legend,
    empty_figure,
    new_figure,
    save,
)
from osftx.results.sweep_reader import JobRecord, SweepRecord

JOB_COLOUR, BEST_COLOUR = PHASE_COLOURS[:2]
PANELS_A_ROW = 3
PANEL_INCHES = 2.6
LOG_FROM = 100
"""Ratio of the largest to the smallest value of a setting from which its axis is logarithmic."""
MOST_LEVEL_CHARACTERS = 38
"""Largest total number of characters of the values on an axis that are written horizontally; more are slanted."""
MOST_PAIRS = 6
MOST_NAMED = 12
"""Largest number of points on a Pareto front that are labelled with the numbers of their jobs."""


def draw_sweep(sweep: SweepRecord, folder: Path) -> dict[str, Picture]:
    """Draws the figures `objective` or `front`, `parameters` and `importance` into `folder`; returns them by name.

    A figure without finished jobs to show is left out.
    """
    return save(sweep_drawings(sweep), folder)


def sweep_drawings(sweep: SweepRecord) -> Iterator[Drawing]:
    if not sweep.finished:
        return
    several = len(sweep.objectives) > 1
    if several:
        pairs = list(combinations(range(len(sweep.objectives)), 2))[:MOST_PAIRS]
        for place, (x, y) in enumerate(pairs):
            text = "Every finished job; diamonds, with their numbers, are those that no other job beats."
            title = f"{sweep.objectives[y]} against {sweep.objectives[x]}".capitalize()
            yield Drawing(f"front_{place + 1}" if len(pairs) > 1 else "front", title, text, front(sweep, x, y))
    else:
        text = "Each job in the order in which they were started; the line is the best so far."
        yield Drawing("objective", "Objective by job", text, by_job(sweep))
    for place, objective in enumerate(sweep.objectives if sweep.parameters else []):
        name = f"parameters_{place + 1}" if several else "parameters"
        text = "Every finished job, by each of the settings; diamonds are the best."
        yield Drawing(name, f"{objective} by setting".capitalize(), text, by_setting(sweep, place))
    if sweep.importance:
        text = "Share of each setting in what tells good jobs from the others (PED-ANOVA)."
        yield Drawing("importance", "Importance of the settings", text, importance(sweep))


def by_job(sweep: SweepRecord) -> Figure:
    """Returns the figure of the single objective, job by job."""
    figure, axes = new_figure(WIDTH_INCHES, 3.0)
    _points(axes, [(float(job.number), _value(job, 0), job) for job in sweep.finished])
    better = min if sweep.directions[0] == "minimize" else max
    so_far: list[float] = []
    for job in sweep.finished:
        so_far.append(better([*so_far[-1:], _value(job, 0)]))
    axes.step([job.number for job in sweep.finished], so_far, where="post", color="#999999", linewidth=1, zorder=1)
    ended = [job.number for job in sweep.jobs if not job.finished]
    if ended:
        lowest = axes.get_xaxis_transform()  # on the lower edge, whatever the value of the objective
        axes.plot(ended, [0.02] * len(ended), "x", color="black", transform=lowest, label="no result")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("job")
    _finish(figure, axes, sweep.objectives[0])
    return figure


def front(sweep: SweepRecord, x: int, y: int) -> Figure:
    """Returns the figure of two objectives against each other."""
    figure, axes = new_figure(WIDTH_INCHES, 4.0)
    points = [(_value(job, x), _value(job, y), job) for job in sweep.finished]
    _points(axes, points)
    best = sorted((a, b) for a, b, job in points if job.best)
    if len(sweep.objectives) == 2:
        # Lower bound of what is reached: between two points, no more than the worse of them.
        edge: Any = "pre" if sweep.directions[x] == "maximize" else "post"
        axes.step([a for a, _ in best], [b for _, b in best], where=edge, color=BEST_COLOUR, linewidth=0.8, zorder=1)
    if len(best) <= MOST_NAMED:
        names: dict[tuple[float, float], list[str]] = {}
        for a, b, job in points:
            if job.best:
                names.setdefault((a, b), []).append(str(job.number))
        for (a, b), numbers in names.items():
            axes.annotate(", ".join(numbers), (a, b), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel(f"{sweep.objectives[x]} ({sweep.directions[x]})")
    _finish(figure, axes, f"{sweep.objectives[y]} ({sweep.directions[y]})")
    axes.grid(axis="x")
    return figure


def by_setting(sweep: SweepRecord, objective: int) -> Figure:
    """Returns the figure of an objective over each setting, with one panel per setting."""
    columns = min(PANELS_A_ROW, len(sweep.parameters))
    rows = -(-len(sweep.parameters) // columns)
    width = max(WIDTH_INCHES, PANEL_INCHES * columns)
    figure = empty_figure(width, PANEL_INCHES * rows + 0.4)
    for place, key in enumerate(sweep.parameters):
        axes = figure.add_subplot(rows, columns, place + 1)
        jobs = [job for job in sweep.finished if key in job.parameters]
        _points(axes, list(zip(_along(axes, key, jobs), (_value(job, objective) for job in jobs), jobs, strict=True)))
        axes.set_xlabel(key.split("@")[0])
        axes.grid(axis="y")
        if place % columns == 0:
            axes.set_ylabel(sweep.objectives[objective])
    return figure


def importance(sweep: SweepRecord) -> Figure:
    """Returns the figure of the importance, with one bar per setting for each objective."""
    keys = list(sweep.importance[0][1])
    figure, axes = new_figure(WIDTH_INCHES, 0.9 + 0.35 * len(keys) * len(sweep.importance))
    height = 0.8 / len(sweep.importance)
    for place, (objective, shares) in enumerate(sweep.importance):
        positions = [row + (place + 0.5) * height - 0.4 for row in range(len(keys))]
        widths = [shares.get(key, 0.0) for key in keys]
        bars = axes.barh(positions, widths, height=height * 0.9, color=PHASE_COLOURS[place], label=objective)
        axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_yticks(range(len(keys)), keys)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("share")
    if len(sweep.importance) > 1:
        add_legend(figure)
    return figure


def _points(axes: Axes, points: list[tuple[float, float, JobRecord]]) -> None:
    for is_best in (False, True):
        chosen = [(x, y) for x, y, job in points if job.best is is_best]
        if chosen:
            axes.scatter(
                [x for x, _ in chosen],
                [y for _, y in chosen],
                s=40 if is_best else 28,
                c=BEST_COLOUR if is_best else JOB_COLOUR,
                marker="D" if is_best else "o",
                label="best" if is_best else "job",
                zorder=2,
            )


def _along(axes: Axes, key: str, jobs: list[JobRecord]) -> list[float]:
    """Returns each job's position on the axis of a setting: its value, or the index of the value if it is no number."""
    texts = [job.parameters[key] for job in jobs]
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        choices = list(dict.fromkeys(texts))
        slanted = sum(map(len, choices)) > MOST_LEVEL_CHARACTERS
        turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        axes.set_xticks(range(len(choices)), choices, fontsize=8, **turned)
        axes.margins(x=0.4)
        return [float(choices.index(text)) for text in texts]
    if numbers and min(numbers) > 0 and max(numbers) / min(numbers) >= LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_major_formatter("{x:.0e}")  # the default one writes powers in mathtext, which is off
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.locator_params(axis="x", nbins=4)
    return numbers


def _value(job: JobRecord, place: int) -> float:
    value = job.values[place]
    assert value is not None  # a finished job has all of them
    return value


def _finish(figure: Figure, axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.grid(axis="y")
    add_legend(figure)
