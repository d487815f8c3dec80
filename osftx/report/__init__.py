"""Reports of a run or of a sweep: figures and one HTML page, made only from the files in its folder."""

from pathlib import Path

from osftx.config.run_layout import FIGURES, REPORT, SWEEP_REPORT
from osftx.report.figures import draw
from osftx.report.page import render
from osftx.report.sweep_figures import draw_sweep
from osftx.report.sweep_page import render_sweep
from osftx.results.run_reader import read_run
from osftx.results.sweep_reader import read_sweep
from osftx.utils.files import write_text


def write_report(run_folder: Path, own: bool = False) -> Path:
    """Writes `figures/*.png` and `report.html` for a run, finished or not; returns the path of the page.

    `own` is whether the run is this process's own (`read_run`).
    """
    run = read_run(run_folder, own)
    figures = draw(run, run_folder / FIGURES)
    page = run_folder / REPORT
    write_text(page, render(run, figures))
    return page


def write_sweep_report(sweep_folder: Path) -> Path:
    """Writes `figures/*.png` and `sweep.html` for a sweep; returns the path of the page."""
    sweep = read_sweep(sweep_folder)
    figures = draw_sweep(sweep, sweep_folder / FIGURES)
    page = sweep_folder / SWEEP_REPORT
    write_text(page, render_sweep(sweep, figures))
    return page
