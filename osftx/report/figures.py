"""All figures of the report of a run. A phase has the same colour in each of them."""

from pathlib import Path

from osftx.report.drawing import Picture, save
from osftx.report.plan_figures import plan_drawings
from osftx.report.protection_figures import protection_drawings
from osftx.report.retention_figures import retention_drawings
from osftx.report.training_figures import training_drawings
from osftx.results.run_record import RunRecord


def draw(run: RunRecord, folder: Path) -> dict[str, Picture]:
    """Draws all figures for which the run has data into `folder`; returns the pictures by name."""
    pictures: dict[str, Picture] = {}
    for drawings in (plan_drawings, retention_drawings, training_drawings, protection_drawings):
        pictures |= save(drawings(run), folder)
    return pictures
