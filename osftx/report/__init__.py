"""Reports: figures and one HTML page, of a run or of a sweep, made from the files of its folder alone."""

from pathlib import Path

from osftx.config.run_layout import FIGURES, REPORT, SWEEP_REPORT
from osftx.report.figures import draw
from osftx.report.page import render
from osftx.report.sweep_figures import draw_sweep
from osftx.report.sweep_page import render_sweep
from osftx.results.run_reader import read_run
from osftx.results.sweep_reader import read_sweep
from osftx.utils.files import write_text


def write_report(run_folder: Path) -> Path:
    """Writes `figures/*.png` and `report.html` of a run, as far as it got; returns the page's path."""
    run = read_run(run_folder)
    figures = draw(run, run_folder / FIGURES)
    page = run_folder / REPORT
    write_text(page, render(run, figures))
    return page


def write_sweep_report(sweep_folder: Path) -> Path:
    """Writes `figures/*.png` and `sweep.html` of a sweep; returns the page's path."""
    sweep = read_sweep(sweep_folder)
    figures = draw_sweep(sweep, sweep_folder / FIGURES)
    page = sweep_folder / SWEEP_REPORT
    write_text(page, render_sweep(sweep, figures))
    return page
