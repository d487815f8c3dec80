"""The HTML page of a sweep: one file that needs no other file and no network."""

from collections.abc import Mapping

from osftx.report.drawing import Picture
from osftx.report.templates import template
from osftx.results.sweep_reader import SweepRecord

FIGURES = ("average_accuracy", "learning_accuracy", "forgetting")
"""Figures of each job's summary that the page shows, the same as on the screen."""


def render_sweep(sweep: SweepRecord, pictures: Mapping[str, Picture]) -> str:
    """Returns the page as HTML."""
    return template("sweep.html.jinja").render(
        sweep=sweep,
        states={state: sum(job.state == state for job in sweep.jobs) for state in ("done", "pruned", "failed")},
        best=[job for job in sweep.jobs if job.best],
        figures=[key for key in FIGURES if key.replace("_", " ") not in sweep.objectives],
        pictures=pictures,
        shortened=_shortened,
    )


def _shortened(value: str | None) -> str:
    """Returns a number with four significant digits, any other text unchanged, and `-` for None."""
    try:
        return "-" if value is None else f"{float(value):.4g}"
    except ValueError:
        return str(value)
