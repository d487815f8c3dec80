import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from PIL import Image
from report_folders import HOSTILE, add_curves, edit, make_run_folder, phase_folder, planned, read, targets

from osftx.report import write_report
from osftx.report.page import render
from osftx.results.retention import FIGURES
from osftx.results.run_reader import read_run

pytestmark = pytest.mark.process

NAMES = ["leak", "learning_rate", "loss", "memory", "ratio", "retention", "throughput"]
"""Of the figures of a whole run without measurements on the way."""


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run_folder(tmp_path)


def figures(run_folder: Path) -> list[str]:
    return sorted(path.stem for path in (run_folder / "figures").iterdir())


def text_alone(run_folder: Path) -> str:
    """The page without figures, which take their time."""
    return render(read_run(run_folder), {})


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
    assert text_alone(run_folder).count("<b>-</b>") == 3


def test_a_change_of_weights_of_zeros_is_a_dash(run_folder: Path) -> None:
    result = run_folder / "phases" / "01_knowledge" / "result.json"
    edit(result, targets=[{**target, "relative_change": None} for target in targets()])
    assert "- 5.9e-03 1.7e-03 model.layers.0.self_attn.q_proj" in section(text_alone(run_folder), "Protection")


def test_an_sft_phase_has_no_ratio_and_no_targets(run_folder: Path) -> None:
    edit(run_folder / "plan.json", phases=[planned(0, "knowledge", None), planned(1, "skills", 0.3)])
    edit(run_folder / "phases" / "01_knowledge" / "result.json", targets=[])
    page = text_alone(run_folder)
    protection = page.split("<h2>Protection")[1].split("<h2>")[0]
    assert "2 skills" in protection
    assert "1 knowledge" not in protection


def test_only_sft_phases_need_no_protection(run_folder: Path) -> None:
    for path in (run_folder / "phases").glob("*/result.json"):
        edit(path, targets=[])
    assert "Protection" not in text_alone(run_folder)


def test_a_phase_that_trains_nothing(run_folder: Path) -> None:
    (run_folder / "phases" / "01_knowledge" / "metrics.jsonl").unlink()
    assert "1 knowledge" in text_alone(run_folder)


def test_a_run_that_stopped_after_one_phase(run_folder: Path) -> None:
    results = read(run_folder / "results.json")
    retention = results["retention"]
    retention["states"] = retention["states"][:2]
    retention["metrics"] = {name: rows[:2] for name, rows in retention["metrics"].items()}
    edit(run_folder / "results.json", phases=results["phases"][:1], retention=retention)
    shutil.rmtree(run_folder / "phases" / "02_skills")
    page = text_alone(run_folder)
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


def section(page: str, heading: str) -> str:
    """The text of one section, with a space for every tag."""
    html = page.split(f"<h2>{heading}")[1].split("<h2>", maxsplit=1)[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<img[^>]+>", "", html))).split())


def test_measurements_on_the_way_are_drawn(run_folder: Path) -> None:
    add_curves(run_folder)
    page = write_report(run_folder).read_text()
    assert figures(run_folder) == sorted([*NAMES, "curves", "set_curves"])
    assert "2 skills: learned 0.000 to 0.765, kept 0.943 to 0.920." in section(page, "Retention")


def test_without_a_configuration_the_page_lacks_only_what_that_says(run_folder: Path) -> None:
    add_curves(run_folder)
    (run_folder / "config.yaml").unlink()
    page = write_report(run_folder).read_text()
    assert "curves" not in figures(run_folder)
    assert "set_curves" in figures(run_folder)
    assert "1 knowledge - 8 NVIDIA H100" in section(page, "How to repeat it")


def test_replayed_samples_stand_in_the_plan(run_folder: Path) -> None:
    assert "Replayed" not in section(text_alone(run_folder), "Plan")
    first, second = read(run_folder / "plan.json")["phases"]
    second["replayed"] = {"base": 1500, "knowledge": 20}
    edit(run_folder / "plan.json", phases=[{**first, "replayed": {}}, second])
    plan = section(text_alone(run_folder), "Plan")
    assert "1 knowledge osft 0.3 5e-06 1,234 - 7" in plan
    assert "2 skills osft 0.2 5e-06 1,234 base 1,500 knowledge 20 7" in plan


def test_benchmarks_have_a_table_and_columns_beside_the_sets(run_folder: Path) -> None:
    retention = read(run_folder / "results.json")["retention"]
    metrics = {"mmlu": "acc", "wikitext": "word_perplexity"}
    values = [[0.612, 8.5], [0.604, 9.25], [0.601, None]]
    write_report(run_folder)
    narrow = (run_folder / "figures" / "retention.png").read_bytes()
    edit(
        run_folder / "results.json",
        retention={**retention, "benchmarks": {"tasks": list(metrics), "metrics": metrics, "values": values}},
    )
    text = section(write_report(run_folder).read_text(), "Retention")
    assert "mmlu acc wikitext word_perplexity base 0.612 8.500 knowledge 0.604 9.250 skills 0.601 -" in text
    assert "Right of the white line: scores of generated answers, and benchmarks" in text
    assert (run_folder / "figures" / "retention.png").read_bytes() != narrow


def test_generated_answers_have_a_table_and_samples(run_folder: Path) -> None:
    retention = read(run_folder / "results.json")["retention"]
    states = retention["states"]
    generated = {
        "sets": ["facts"],
        "scores": {"facts": "contains"},
        "values": [[0.1], [0.7], [0.6]],
        "cut_off": [[0], [0], [1]],
    }
    edit(run_folder / "results.json", retention={**retention, "generated": generated})
    samples = [
        {
            "set": "facts",
            "index": index,
            "prompt": f"question {index}",
            "reference": f"right {index}",
            "answers": dict.fromkeys(states, f"same {index}") | ({states[-1]: "<b>new</b>"} if index == 9 else {}),
            "scores": dict.fromkeys(states, 0.0),
        }
        for index in range(10)
    ]
    (run_folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    page = write_report(run_folder).read_text()
    assert "facts contains base 0.100 knowledge 0.700 skills 0.600" in section(page, "Retention")
    answers = section(page, "Answers")
    assert "question 9" in answers  # the only one that a phase has changed
    assert "question 7" not in answers
    assert "&lt;b&gt;new&lt;/b&gt;" in page


def test_benchmarks_alone_need_no_evaluation_set(run_folder: Path) -> None:
    nothing = {"exact_match": [[], [], []], "loss": [[], [], []], "token_accuracy": [[], [], []]}
    benchmarks = {"tasks": ["mmlu"], "metrics": {"mmlu": "acc"}, "values": [[0.6], [0.5], [0.4]]}
    retention = {"sets": [], "states": ["base", "knowledge", "skills"], "metrics": nothing, "benchmarks": benchmarks}
    edit(run_folder / "results.json", retention=retention, summary=dict.fromkeys(FIGURES))
    text = section(text_alone(run_folder), "Retention")
    assert "base 0.600 knowledge 0.500 skills 0.400" in text
    assert "Exact match" not in text


def test_every_weight_has_a_line(run_folder: Path) -> None:
    plain = [{**target, "free_input_share": None, "kept_output_change": None} for target in targets()]
    edit(phase_folder(run_folder, 1, "knowledge") / "result.json", targets=plain)
    text = section(text_alone(run_folder), "Protection")
    start = "model.layers.1.mlp.down_proj 4,096 x 14,336 2,867 1,229 2.5e-06 1.5e-03 0.875 1.2e-02"
    assert f"{start} Every weight" in text
    assert f"{start} 5.9e-03 1.7e-03" in text


def test_what_was_chosen_by_weights_has_no_columns_of_kept_inputs(run_folder: Path) -> None:
    assert "Kept inputs, free" in section(text_alone(run_folder), "Protection")
    plain = [{**target, "free_input_share": None, "kept_output_change": None} for target in targets()]
    for number, name in enumerate(("knowledge", "skills"), 1):
        edit(phase_folder(run_folder, number, name) / "result.json", targets=plain)
    assert "ept inputs" not in section(text_alone(run_folder), "Protection")


def test_what_was_foreseen_of_each_set_stands_beside_what_is_taught(run_folder: Path) -> None:
    assert "before training" not in section(text_alone(run_folder), "Protection")
    content = json.loads((run_folder / "results.json").read_text())
    for phase, shares in zip(content["phases"], ({"base": 0.04}, {"base": 0.05, "facts": 0.0625}), strict=True):
        phase["preservation"]["free_shares"] = {"taught": 0.125, "sets": shares}
    edit(run_folder / "results.json", phases=content["phases"])
    text = section(text_alone(run_folder), "Protection")
    assert "What it teaches base facts" in text
    assert "1.2e-01 4.0e-02 -" in text
    assert "1.2e-01 5.0e-02 6.2e-02" in text


def test_ranks_that_differ_between_layers_are_drawn(run_folder: Path) -> None:
    own = [*targets(1, 1229), *targets(2, 900)[2:]]
    edit(phase_folder(run_folder, 2, "skills") / "result.json", targets=own)
    write_report(run_folder)
    assert "free_rank" in figures(run_folder)


def test_a_leak_of_zero_has_no_place_in_the_figure(run_folder: Path) -> None:
    odd = [{**targets()[0], "name": name, "leak_fp32": 0.0, "leak_saved": 0.0} for name in ("head", "tail")]
    for path in (run_folder / "phases").glob("*/result.json"):
        edit(path, targets=odd)
    write_report(run_folder)
    assert "leak" not in figures(run_folder)
    odd[0]["leak_saved"] = 1e-3
    edit(phase_folder(run_folder, 2, "skills") / "result.json", targets=odd)
    write_report(run_folder)
    assert "leak" in figures(run_folder)


def test_a_phase_without_a_record_of_its_own_is_a_dash(run_folder: Path) -> None:
    (run_folder / "phases" / "02_skills" / "result.json").unlink()
    assert "2 skills 43 - - in this run" in section(text_alone(run_folder), "How to repeat it")


def test_what_repeats_it_is_told_for_each_phase(run_folder: Path) -> None:
    text = section(text_alone(run_folder), "How to repeat it")
    assert "1 knowledge 42 8 NVIDIA H100 before, reused knowledge-fingerprint" in text
    assert "2 skills 43 8 NVIDIA H100 in this run skills-fingerprint" in text
    assert "Of a reused phase" in text


def test_without_a_reused_phase_nothing_is_said_about_it(run_folder: Path) -> None:
    phases = read(run_folder / "results.json")["phases"]
    edit(run_folder / "results.json", phases=[{**phase, "reused": False} for phase in phases])
    assert "reused" not in section(text_alone(run_folder), "How to repeat it")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("plan.json", '{"phases": [{"name": "a", "index": "../x"}]}'),
        ("plan.json", '{"phases": [{"name": "..", "index": 0}]}'),
        ("plan.json", '{"phases": [{"name": "' + "a" * 5000 + '", "index": 0}]}'),
        ("plan.json", "[]"),
        ("plan.json", '{"phases": [3]}'),
        ("results.json", '{"phases": [{"name": "knowledge", "curve": "long"}], "retention": {"sets": ["a"]}}'),
        ("results.json", '{"phases": 3}'),
        ("samples.jsonl", '{"set": "a", "answers": ["x"], "index": 0}'),
        ("config.yaml", 'zzz: "${"'),
    ],
    ids=range(9),
)
def test_files_of_another_structure_are_one_error(run_folder: Path, file: str, content: str) -> None:
    (run_folder / file).write_text(content)
    with pytest.raises((ValueError, OSError), match=re.escape(str(run_folder))):
        write_report(run_folder)


def test_a_link_in_the_place_of_the_figures_is_not_followed(run_folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(run_folder / "figures", ignore_errors=True)
    (run_folder / "figures").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="figures: is a link"):
        write_report(run_folder)
    assert not list(elsewhere.iterdir())
