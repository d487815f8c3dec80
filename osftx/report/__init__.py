"""Reports: figures and one HTML page, of a run or of a sweep, made from what lies in the folder alone."""

from pathlib import Path

from osftx.config.run_layout import FIGURES, REPORT, SWEEP_REPORT
from osftx.report.figures import draw
from osftx.report.page import render
from osftx.report.sweep_figures import draw_sweep
from osftx.report.sweep_page import render_sweep
from osftx.results.run_reader import Run
from osftx.results.sweep_reader import SweepRecord
from osftx.utils.files import write_text


def write_report(run_folder: Path) -> Path:
    """Write `figures/*.png` and `report.html`, as far as the run got, and return the page's path."""
    run = Run.read(run_folder)
    figures = draw(run, run_folder / FIGURES)
    page = run_folder / REPORT
    write_text(page, render(run, figures))
    return page


def write_sweep_report(sweep_folder: Path) -> Path:
    """Write `figures/*.png` and `sweep.html` from `sweep.json`, and return the page's path."""
    sweep = SweepRecord.read(sweep_folder)
    figures = draw_sweep(sweep, sweep_folder / FIGURES)
    page = sweep_folder / SWEEP_REPORT
    write_text(page, render_sweep(sweep, figures))
    return page
