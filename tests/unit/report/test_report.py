import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from PIL import Image
from report_folders import HOSTILE, edit, make_run_folder, planned, read, targets

from osftx.evaluation.retention import FIGURES
from osftx.report import write_report

NAMES = ["leak", "learning_rate", "loss", "memory", "ratio", "retention", "throughput"]
"""Of the figures of a whole run without measurements on the way."""


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run_folder(tmp_path)


def figures(run_folder: Path) -> list[str]:
    return sorted(path.stem for path in (run_folder / "figures").iterdir())


def test_figures_are_png_files(run_folder: Path) -> None:
    write_report(run_folder)
    assert figures(run_folder) == NAMES
    for path in (run_folder / "figures").iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            image.verify()


def test_the_page_holds_the_numbers(run_folder: Path) -> None:
    path = write_report(run_folder)
    assert path == run_folder / "report.html"
    page = unescape(path.read_text())
    for part in (
        *("study", "1 knowledge", "2 skills", "phase skills: something to think about"),
        *("1,234", "987,654", "2 B", "8.03 B", "5e-06", "meta-llama/Llama-3.1-8B-Instruct"),
        *("0.868", "0.874", "0.028", "-0.013", "0.765", "0.984", "3.750", "0.990"),
        *("1:02:05", "1,975,308", "2.500", "0.125", "12,345", "41.750"),
        *("2.5e-06", "4.2e-03", "model.layers.0.self_attn.q_proj", "1.2e-02", "4,916", "16,384"),
        *(
            "python -m osftx +experiment=study 'phases.skills.learning_rate=1e-5'",
            "osftx 0.1.0, torch 2.13.0",
        ),
    ):
        assert part in page, part
    assert "ended early" not in page


def test_the_page_needs_nothing_but_itself(run_folder: Path) -> None:
    page = write_report(run_folder).read_text()
    assert re.findall(r"https?://", page) == []
    sources = re.findall(r'(?:src|href)="([^"]{0,22})', page)
    assert sources == ["data:image/png;base64,"] * 7
    assert "<script" not in page
    assert "url(" not in page


def test_all_text_is_escaped(run_folder: Path) -> None:
    retention = read(run_folder / "results.json")["retention"]
    retention["sets"][1] = HOSTILE
    edit(run_folder / "results.json", retention=retention, command=HOSTILE, versions={HOSTILE: HOSTILE})
    phases = read(run_folder / "plan.json")["phases"]
    phases[0]["starts_from"] = HOSTILE
    edit(run_folder / "plan.json", name=HOSTILE, warnings=[HOSTILE], phases=phases)
    result = read(run_folder / "phases" / "01_knowledge" / "result.json")
    result["targets"][0]["name"] = HOSTILE
    edit(run_folder / "phases" / "01_knowledge" / "result.json", targets=result["targets"])
    page = write_report(run_folder).read_text()
    assert "<script" not in page
    assert unescape(page).count(HOSTILE) >= 10


def test_without_evaluation_sets(run_folder: Path) -> None:
    nothing = dict.fromkeys(FIGURES)
    states = ["base", "knowledge", "skills"]
    empty = {"exact_match": [[], [], []], "loss": [[], [], []], "token_accuracy": [[], [], []]}
    edit(
        run_folder / "results.json",
        retention={"sets": [], "states": states, "metrics": empty},
        summary=nothing,
    )
    page = write_report(run_folder).read_text()
    assert "Retention" not in page
    assert "Average accuracy" not in page
    assert figures(run_folder) == [name for name in NAMES if name != "retention"]


def test_a_summary_figure_that_does_not_exist_is_a_dash(run_folder: Path) -> None:
    edit(
        run_folder / "results.json",
        summary=dict.fromkeys(FIGURES) | {"average_accuracy": 0.5},
    )
    assert write_report(run_folder).read_text().count("<b>-</b>") == 3


def test_a_change_of_weights_of_zeros_is_a_dash(run_folder: Path) -> None:
    result = run_folder / "phases" / "01_knowledge" / "result.json"
    edit(result, targets=[{**target, "relative_change": None} for target in targets()])
    row = '<td>-</td><td>1.7e-03</td><td class="text">model.layers.0.self_attn.q_proj</td>'
    assert row in write_report(run_folder).read_text()


def test_an_sft_phase_has_no_ratio_and_no_targets(run_folder: Path) -> None:
    edit(run_folder / "plan.json", phases=[planned(0, "knowledge", None), planned(1, "skills", 0.3)])
    edit(run_folder / "phases" / "01_knowledge" / "result.json", targets=[])
    page = write_report(run_folder).read_text()
    protection = page.split("<h2>Protection")[1].split("<h2>")[0]
    assert "2 skills" in protection
    assert "1 knowledge" not in protection


def test_only_sft_phases_need_no_protection(run_folder: Path) -> None:
    for path in (run_folder / "phases").glob("*/result.json"):
        edit(path, targets=[])
    assert "Protection" not in write_report(run_folder).read_text()


def test_a_phase_that_trains_nothing(run_folder: Path) -> None:
    (run_folder / "phases" / "01_knowledge" / "metrics.jsonl").unlink()
    assert "1 knowledge" in write_report(run_folder).read_text()


def test_a_run_that_stopped_after_one_phase(run_folder: Path) -> None:
    results = read(run_folder / "results.json")
    retention = results["retention"]
    retention["states"] = retention["states"][:2]
    retention["metrics"] = {name: rows[:2] for name, rows in retention["metrics"].items()}
    edit(run_folder / "results.json", phases=results["phases"][:1], retention=retention)
    shutil.rmtree(run_folder / "phases" / "02_skills")
    page = write_report(run_folder).read_text()
    assert "1 of 2 phases are done" in page
    assert "0.984" in page


def test_a_run_that_stopped_at_once(run_folder: Path) -> None:
    (run_folder / "results.json").unlink()
    shutil.rmtree(run_folder / "phases")
    page = write_report(run_folder).read_text()
    assert "0 of 2 phases are done" in page
    assert figures(run_folder) == ["ratio"]


def test_a_report_can_be_written_again(run_folder: Path) -> None:
    first = write_report(run_folder).read_bytes()
    assert write_report(run_folder).read_bytes() == first
