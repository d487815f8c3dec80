"""The report of a sweep, from a sweep.json."""

import re
from html import unescape
from pathlib import Path

import pytest
from report_folders import HOSTILE, job, make_sweep_folder

from osftx.report import write_sweep_report

pytestmark = pytest.mark.process


def figures(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "figures").iterdir())


def test_one_objective(tmp_path: Path) -> None:
    jobs = [job(0, "1e-05", 0.25), job(1, "0.012345678", 0.75, best=True)]
    jobs.append(job(2, "0.001", None, state="failed", failure="rank 1: out of memory", summary={}))
    jobs.append(job(3, "0.002", 0.1, state="pruned"))
    shares = {"training.learning_rate": 0.8, "order": 0.2}
    make_sweep_folder(tmp_path, jobs, importance={"summary.average_accuracy": shares})
    path = write_sweep_report(tmp_path)
    page = unescape(path.read_text())
    assert path == tmp_path / "sweep.html"
    assert figures(tmp_path) == ["importance", "objective", "parameters"]
    for part in ("2 done, 1 ended early, 1 failed", "rank 1: out of memory", "0.01235", "0.750", "1:02:05", "* 1"):
        assert part in page, part
    assert re.findall(r"https?://", page) == []
    assert re.findall(r'(?:src|href)="([^"]{0,22})', page) == ["data:image/png;base64,"] * 3


@pytest.mark.parametrize("count", [2, 3])
def test_several_objectives(tmp_path: Path, count: int) -> None:
    names = ["summary.learning_accuracy", "summary.forgetting", "phases.0.duration_s"][:count]
    jobs = [job(n, f"1e-{n + 2}", [0.5 + n / 10, 0.1 * n, 3.0][:count], best=n < 2) for n in range(4)]
    shares = {"training.learning_rate": 0.8, "order": 0.2}
    directions = ["maximize", "minimize", "minimize"][:count]
    make_sweep_folder(tmp_path, jobs, objectives=names, directions=directions, importance=dict.fromkeys(names, shares))
    page = write_sweep_report(tmp_path).read_text()
    fronts = ["front"] if count == 2 else ["front_1", "front_2", "front_3"]
    assert figures(tmp_path) == [*fronts, "importance", *(f"parameters_{n + 1}" for n in range(count))]
    assert "Pareto front" in page
    assert "maximize learning accuracy" in page


def test_without_a_finished_job_there_is_a_table_alone(tmp_path: Path) -> None:
    make_sweep_folder(tmp_path, [job(0, "1e-5", None, state="failed", failure=HOSTILE), job(1, "1e-4", [None, 0.2])])
    page = write_sweep_report(tmp_path).read_text()
    assert figures(tmp_path) == []
    assert "<script" not in page
    assert HOSTILE in unescape(page)


def test_names_with_a_dollar_sign_are_drawn(tmp_path: Path) -> None:
    jobs = [job(n, "1", 0.5, parameters={HOSTILE: f"$x_{n}$ <b>"}) for n in range(2)]
    write_sweep_report(make_sweep_folder(tmp_path, jobs, parameters=[HOSTILE]))
    assert "parameters" in figures(tmp_path)
