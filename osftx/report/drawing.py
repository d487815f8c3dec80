"""The common style of all figures, and writing them as PNG files.

The colours are those of Okabe and Ito ("Color Universal Design", https://jfly.uni-koeln.de/color/), which colour-blind
readers can tell apart. Lines of the same colour also differ in marker or dash.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from osftx.utils.files import write_bytes

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
"""Width of a figure in inches, narrow enough that its letters can be read on a phone."""
PHASE_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
LEGEND_CHARACTERS = 66
"""Number of characters in one row of a legend, including what surrounds each name."""


class Drawing(NamedTuple):
    """A figure that is still to be written; `text` describes in words what it shows."""

    name: str
    title: str
    text: str
    figure: Figure


class Picture(NamedTuple):
    """A figure that has been written to a file."""

    path: Path
    title: str
    text: str


def save(drawings: Iterable[Drawing], folder: Path) -> dict[str, Picture]:
    """Writes each drawing to `folder` as `<name>.png`; returns the pictures by name.

    `drawings` must be a generator, because a figure takes on the style when it is made. Raises ValueError if `folder`
    is a link.
    """
    if folder.is_symlink():
        raise ValueError(f"{folder}: is a link, and what it leads to is not replaced; remove it")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    with rc_context(STYLE):
        for name, title, text, figure in drawings:
            path = folder / f"{name}.png"
            content = BytesIO()
            figure.savefig(content, format="png")
            write_bytes(path, content.getvalue())
            pictures[name] = Picture(path, title, text)
    return pictures


def empty_figure(width_inches: float, height_inches: float) -> Figure:
    """Returns a figure without axes. It does without pyplot: no global state, no display, nothing to close."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """Returns a figure with one set of axes."""
    figure = empty_figure(width_inches, height_inches)
    return figure, figure.add_subplot()


def add_legend(figure: Figure) -> None:
    """Adds a legend above the axes, in as many columns as fit; beside the axes it would reduce their width."""
    names = [str(name) for axes in figure.axes for name in axes.get_legend_handles_labels()[1]]
    if names:
        columns = LEGEND_CHARACTERS // (max(map(len, names)) + 6)
        figure.legend(loc="outside upper left", ncols=max(1, min(columns, len(names))), frameon=False)


def colour(place: int) -> str:
    return PHASE_COLOURS[place % len(PHASE_COLOURS)]


def marker(place: int) -> str:
    """Returns the marker of an index; indices that share a colour get different markers."""
    return MARKERS[(place + place // len(PHASE_COLOURS)) % len(MARKERS)]
