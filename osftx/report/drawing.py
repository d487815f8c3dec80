"""How all figures look, and how they become PNG files.

The colours are Okabe and Ito's ("Color Universal Design", https://jfly.uni-koeln.de/color/): colour-blind readers can
tell them apart. Lines that share one also differ in marker or dash.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {  # matplotlib's key type differs between its versions
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "text.parse_math": False,  # names may hold a dollar sign
    "savefig.dpi": 180,
}
WIDTH_INCHES = 5.4
"""Narrow enough that the letters can still be read on a phone."""
PHASE_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
LEGEND_CHARACTERS = 66
"""In one row of a legend, with what surrounds each name."""


class Drawing(NamedTuple):
    """A figure to be written; `text` says in words what it shows."""

    name: str
    title: str
    text: str
    figure: Figure


class Picture(NamedTuple):
    """A figure that was written."""

    path: Path
    title: str
    text: str


def save(drawings: Iterable[Drawing], folder: Path) -> dict[str, Picture]:
    """Write each drawing to `folder` as `<name>.png`. Give a generator: figures take on the style as they are made."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    with rc_context(STYLE):
        for name, title, text, figure in drawings:
            path = folder / f"{name}.png"
            figure.savefig(path)
            pictures[name] = Picture(path, title, text)
    return pictures


def empty_figure(width_inches: float, height_inches: float) -> Figure:
    """Without pyplot there is no global state, no display and nothing to close."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """A figure with one set of axes."""
    figure = empty_figure(width_inches, height_inches)
    return figure, figure.add_subplot()


def add_legend(figure: Figure) -> None:
    """Above the axes, in as many columns as there is room for: beside them it would take their width."""
    names = [str(name) for axes in figure.axes for name in axes.get_legend_handles_labels()[1]]
    if names:
        columns = LEGEND_CHARACTERS // (max(map(len, names)) + 6)
        figure.legend(loc="outside upper left", ncols=max(1, min(columns, len(names))), frameon=False)


def colour(place: int) -> str:
    return PHASE_COLOURS[place % len(PHASE_COLOURS)]


def marker(place: int) -> str:
    """Another one for each place that has the same colour."""
    return MARKERS[(place + place // len(PHASE_COLOURS)) % len(MARKERS)]
