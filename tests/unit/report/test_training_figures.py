"""The loss figure of a run that validates: both lines, from the same lines of metrics.jsonl."""

import json
from pathlib import Path

from report_folders import make_run_folder, phase_folder

from osftx.report.training_figures import loss, training_drawings
from osftx.results.run_reader import read_run


def add_validation(folder: Path, number: int, name: str, losses: dict[int, float]) -> None:
    path = phase_folder(folder, number, name) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["step"] in losses:
            line["val_loss"] = losses[line["step"]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_validation_is_a_second_line_with_markers(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path)
    add_validation(folder, 2, "skills", {10: 1.5, 20: 1.25})
    run = read_run(folder)
    (axes,) = loss(run).axes
    (marked,) = (line for line in axes.get_lines() if line.get_marker() not in ("", "None"))
    assert list(marked.get_xdata()) == [30, 40]  # behind the 20 steps of the first phase
    assert list(marked.get_ydata()) == [1.5, 1.25]
    trained = next(line for line in axes.get_lines() if line.get_label() == "2 skills")
    assert trained.get_color() == marked.get_color()
    assert "with markers" in next(training_drawings(run)).text


def test_without_validation_there_is_none(tmp_path: Path) -> None:
    run = read_run(make_run_folder(tmp_path))
    (axes,) = loss(run).axes
    assert all(line.get_marker() in ("", "None") for line in axes.get_lines())
    assert next(training_drawings(run)).text == "Mean loss of the counted tokens, at each optimizer step."
