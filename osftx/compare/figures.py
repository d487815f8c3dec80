"""The figure of a comparison: retention against learning, with a thin line per run and a thick line per group.

Groups have colours of Okabe and Ito's palette and their own markers, so that they differ in both.
"""

from io import BytesIO
from statistics import fmean
from textwrap import fill

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from osftx.compare.comparison import ComparedGroup, Comparison
from osftx.compare.curves import ALL
from osftx.compare.matched import mean_curve
from osftx.compare.sentences import seeds
from osftx.report.drawing import LEGEND_CHARACTERS, STYLE, WIDTH_INCHES, colour, marker, new_figure

THIN, THICK = 0.8, 2.2
LABEL_CHARACTERS = 40
"""Number of characters in one line of an axis label."""


def picture(comparison: Comparison) -> bytes:
    """Returns the figure as the content of a PNG file."""
    with rc_context(STYLE):
        file = BytesIO()
        kept_against_learned(comparison).savefig(file, format="png")
        return file.getvalue()


def kept_against_learned(comparison: Comparison) -> Figure:
    """Returns the figure of the curves and their means; without curves it shows the end points, not joined by lines."""
    labels = [fill(f"{group.label} ({seeds(group.seeds)})", LEGEND_CHARACTERS) for group in comparison.groups]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure, axes = new_figure(WIDTH_INCHES, 4.0 + 0.22 * lines)
    for place, (group, label) in enumerate(zip(comparison.groups, labels, strict=True)):
        if comparison.level is None:
            _end_points(axes, group, colour(place), marker(place), label)
        else:
            _curves(axes, group, colour(place), marker(place), label)
    if comparison.level is not None:
        axes.axvline(comparison.level, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"learned: exact match on {', '.join(comparison.sets.taught)}")
    kept = ", ".join(comparison.sets.of(ALL))
    axes.set_ylabel(fill(f"kept: exact match on {kept}", LABEL_CHARACTERS))
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid()
    figure.legend(loc="outside lower center", frameon=False)
    return figure


def _curves(axes: Axes, group: ComparedGroup, ink: str, mark: str, label: str) -> None:
    for run in group.runs:
        learned, kept = [point.learning for point in run.curve], [point.kept[ALL] for point in run.curve]
        single = len(group.runs) == 1
        axes.plot(
            learned,
            kept,
            color=ink,
            linewidth=THICK if single else THIN,
            alpha=1.0 if single else 0.6,
            marker=mark,
            markersize=3,
            label=label if single else None,
        )
    if len(group.runs) > 1:
        line = mean_curve([run.curve for run in group.runs], ALL)
        axes.plot(
            [level for level, _ in line],
            [kept for _, kept in line],
            color=ink,
            linewidth=THICK,
            marker=mark,
            markevery=0.2,
            label=f"{label}, mean",
        )


def _end_points(axes: Axes, group: ComparedGroup, ink: str, mark: str, label: str) -> None:
    ends = [run.curve[-1] for run in group.runs]
    learned, kept = [point.learning for point in ends], [point.kept[ALL] for point in ends]
    axes.plot(learned, kept, linestyle="", marker=mark, markersize=4, color=ink, alpha=0.6)
    axes.plot(
        [fmean(learned)], [fmean(kept)], linestyle="", marker=mark, markersize=10, color=ink, label=label, zorder=3
    )
