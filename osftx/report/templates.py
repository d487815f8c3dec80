"""The templates of the HTML pages and the filters that format their values. The templates escape all text."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

FOLDER = Path(__file__).parent
NONE = "-"
"""Text that is shown where there is no value."""


def template(name: str) -> Template:
    """Returns a template of this folder, with the filters that the pages share."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=_count, size=_size, number=_number, leak=_leak, image=_image, clock=_clock)
    return environment.get_template(name)


def _count(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def _size(value: float) -> str:
    """Returns a number of parameters with three significant digits: 8,030,261,248 is 8.03 B."""
    for unit, name in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def _number(value: float | None) -> str:
    """Returns a number with three decimals, as on the screen."""
    return NONE if value is None else f"{value:.3f}"


def _leak(value: float | None) -> str:
    return NONE if value is None else f"{value:.1e}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _image(path: Path) -> str:
    """Returns a PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
