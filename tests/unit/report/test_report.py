import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from osftx.evaluation.retention import FIGURES
from osftx.report import write_report

HOSTILE = "<script>alert('$x$')</script>"


def planned(index: int, name: str, ratio: float | None) -> dict[str, Any]:
    return {
        "index": index,
        "name": name,
        "method": "sft" if ratio is None else "osft",
        "unfreeze_rank_ratio": ratio,
        "learning_rate": 5e-06,
        "samples": 1234,
        "dropped": 7,
        "tokens": 987654,
        "steps": 20,
        "starts_from": "meta-llama/Llama-3.1-8B-Instruct" if index == 0 else "knowledge",
        "trainable_parameters": 2_000_000_000,
        "frozen_parameters": 8_030_261_248,
    }


def finished(name: str, leak: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "method": "osft",
        "unfreeze_rank_ratio": 0.3,
        "checkpoint": f"phases/{name}/checkpoint",
        "steps": 20,
        "tokens": 1_975_308,
        "duration_s": 3725.0,
        "preservation": {"leak_fp32": leak, "leak_saved": leak, "worst_weight": None},
    }


def step(number: int) -> dict[str, Any]:
    return {
        "step": number,
        "lr": 5e-06 * (1 - number / 20),
        "loss": 2.5 / number,
        "tokens_per_second": 12345.0,
        "peak_memory_usage_GB": 41.75,
    }


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Two finished OSFT phases, three evaluation sets, a warning."""
    names = ("knowledge", "skills")
    plan = {
        "name": "study",
        "phases": [planned(0, "knowledge", 0.3), planned(1, "skills", 0.2)],
        "warnings": ["phase skills: something to think about"],
    }
    metrics = {
        "exact_match": [[0.911, 0.0, 0.0], [0.902, 0.984, 0.0], [0.887, 0.953, 0.765]],
        "loss": [[0.25, 4.5, 3.75], [0.26, 0.125, 3.5], [0.27, 0.15, 0.5]],
        "token_accuracy": [[0.95, 0.1, 0.2], [0.94, 0.99, 0.2], [0.93, 0.98, 0.9]],
    }
    results = {
        "experiment": "study",
        "objective": 0.8683,
        "phases": [finished(name, 0.004) for name in names],
        "retention": {"sets": ["base", *names], "states": ["base", *names], "metrics": metrics},
        "summary": {
            "average_accuracy": 0.8683,
            "learning_accuracy": 0.8744,
            "forgetting": 0.0275,
            "backward_transfer": -0.0125,
        },
        "command": "python -m osftx +experiment=study 'phases.skills.learning_rate=1e-5'",
        "versions": {"osftx": "0.1.0", "torch": "2.13.0"},
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "results.json").write_text(json.dumps(results))
    for number, name in enumerate(names, start=1):
        folder = tmp_path / "phases" / f"{number:02d}_{name}"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(step(n)) + "\n" for n in range(1, 21)))
        target = {"shape": [4096, 4096], "frozen_rank": 2867, "free_rank": 1229}
        target |= {"relative_change": 0.0123, "kept_output_change": 0.0017}
        targets = [
            {"name": "model.layers.0.self_attn.q_proj", "leak_fp32": 1e-06, "leak_saved": 0.0042, **target},
            {"name": "model.layers.1.mlp.down_proj", "leak_fp32": 2.5e-06, "leak_saved": 0.0031, **target},
        ]
        (folder / "result.json").write_text(json.dumps({"name": name, "targets": targets}))
    return tmp_path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def figures(run_folder: Path) -> list[str]:
    return sorted(path.name for path in (run_folder / "figures").iterdir())


def test_figures_are_png_files(run_folder: Path) -> None:
    write_report(run_folder)
    assert figures(run_folder) == ["learning_rate.png", "loss.png", "ratio.png", "retention.png"]
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
        *("2.5e-06", "4.2e-03", "model.layers.0.self_attn.q_proj", "1.2e-02", "2,458", "8,192"),
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
    assert sources == ["data:image/png;base64,"] * 4
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
    assert figures(run_folder) == ["learning_rate.png", "loss.png", "ratio.png"]


def test_a_summary_figure_that_does_not_exist_is_a_dash(run_folder: Path) -> None:
    edit(
        run_folder / "results.json",
        summary=dict.fromkeys(FIGURES) | {"average_accuracy": 0.5},
    )
    assert write_report(run_folder).read_text().count("<b>-</b>") == 3


def test_a_change_of_weights_of_zeros_is_a_dash(run_folder: Path) -> None:
    result = run_folder / "phases" / "01_knowledge" / "result.json"
    targets = read(result)["targets"]
    edit(result, targets=[{**target, "relative_change": None} for target in targets])
    row = '<td>-</td><td>1.7e-03</td><td class="text">model.layers.0.self_attn.q_proj</td>'
    assert row in write_report(run_folder).read_text()


def test_an_sft_phase_has_no_ratio_and_no_targets(run_folder: Path) -> None:
    edit(run_folder / "plan.json", phases=[planned(0, "knowledge", None), planned(1, "skills", 0.3)])
    edit(run_folder / "phases" / "01_knowledge" / "result.json", targets=[])
    page = write_report(run_folder).read_text()
    protection = page.split("<h2>Protection")[1]
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
    assert figures(run_folder) == ["ratio.png"]


def test_a_report_can_be_written_again(run_folder: Path) -> None:
    first = write_report(run_folder).read_bytes()
    assert write_report(run_folder).read_bytes() == first
