"""The report of a run: figures and one HTML page, made from the run folder alone."""

from pathlib import Path

from osftx.files import write_text
from osftx.report.figures import draw
from osftx.report.page import render
from osftx.report.run import Run


def write_report(run_folder: Path) -> Path:
    """Write `figures/*.png` and `report.html`, as far as the run got, and return the page's path."""
    run = Run.read(run_folder)
    figures = draw(run, run_folder / "figures")
    page = run_folder / "report.html"
    write_text(page, render(run, figures))
    return page
