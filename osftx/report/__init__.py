"""Reports of a run or of a sweep: figures and one HTML page, made only from the files in its folder."""

from collections.abc import Iterator
from contextlib import contextmanager
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

    `own` is whether the run is this process's own (`read_run`). Raises OSError, or ValueError with the folder if its
    files are damaged or are not those of a run.
    """
    with _told(run_folder):
        run = read_run(run_folder, own)
        page = render(run, draw(run, run_folder / FIGURES))
    write_text(run_folder / REPORT, page)
    return run_folder / REPORT


def write_sweep_report(sweep_folder: Path) -> Path:
    """Writes `figures/*.png` and `sweep.html` for a sweep; returns the path of the page. Raises as `write_report`."""
    with _told(sweep_folder):
        sweep = read_sweep(sweep_folder)
        page = render_sweep(sweep, draw_sweep(sweep, sweep_folder / FIGURES))
    write_text(sweep_folder / SWEEP_REPORT, page)
    return sweep_folder / SWEEP_REPORT


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Makes one error of all that files of another structure lead to, wherever it shows: in a figure or in the page."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder}: its files cannot be shown ({type(error).__name__}: {reason})") from error
