"""Answers that two ranks generate after each phase, against plain transformers on the checkpoints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

COMMAND = (sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", "~phases.skills", "~evaluation.sets.skills")
SETTINGS = (
    "phases.knowledge.num_epochs=20",
    "training.train_dtype=float32",
    "evaluation.sets.base.score=exact_match",
    "evaluation.sets.base.against_base=true",
    "evaluation.sets.knowledge.score=contains",
    "evaluation.sets.knowledge.max_new_tokens=6",
)


def osftx(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, f"store_dir={folder / 'store'}", *SETTINGS, *overrides]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    done = osftx(folder, f"output_dir={folder / 'run'}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_two_ranks_answer_as_plain_transformers_does(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "experiments/tiny/base")
    checkpoint = folder / "run/phases/01_knowledge/checkpoint"
    for state, path in {"base": ROOT / "experiments/tiny/base", "knowledge": checkpoint}.items():
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        for sample in lines(folder / "run/samples.jsonl")[::17]:  # some of both sets
            ids = tokenizer(sample["prompt"], add_special_tokens=False, return_tensors="pt").input_ids
            longest = 6 if sample["set"] == "knowledge" else 128
            new = model.generate(ids, max_new_tokens=longest, do_sample=False)[0, ids.shape[1] :]
            assert tokenizer.decode(new, skip_special_tokens=True) == sample["answers"][state]


def test_scores_are_the_means_of_the_samples_and_agree_with_exact_match(folder: Path) -> None:
    retention = json.loads((folder / "run/results.json").read_text())["retention"]
    generated = retention["generated"]
    assert generated["sets"] == ["base", "knowledge"]
    assert generated["scores"] == {"base": "exact_match", "knowledge": "contains"}
    samples = lines(folder / "run/samples.jsonl")
    for row, state in zip(generated["values"], ("base", "knowledge"), strict=True):
        for value, name in zip(row, generated["sets"], strict=True):
            scores = [sample["scores"][state] for sample in samples if sample["set"] == name]
            assert value == pytest.approx(sum(scores) / len(scores))
    teacher_forced = [row[retention["sets"].index("base")] for row in retention["metrics"]["exact_match"]]
    assert [row[0] for row in generated["values"]] == pytest.approx(teacher_forced)
    assert generated["values"][1][1] > 0
    assert "Answers" in (folder / "run/report.html").read_text()


def test_the_comparison_with_the_start_model_agrees_with_the_answers(folder: Path) -> None:
    compared = json.loads((folder / "run/results.json").read_text())["retention"]["against_base"]
    assert compared["sets"] == ["base"]
    assert compared["kl_to_base"][0] == [0]
    assert compared["token_agreement"][0] == compared["unchanged_answers"][0] == [1]
    samples = [sample["answers"] for sample in lines(folder / "run/samples.jsonl") if sample["set"] == "base"]
    same = sum(answers["base"] == answers["knowledge"] for answers in samples) / len(samples)
    assert compared["unchanged_answers"][1][0] == pytest.approx(same)
    assert compared["kl_to_base"][1][0] > 0


def test_known_answers_are_not_generated_again_and_another_score_needs_none(folder: Path) -> None:
    again = osftx(folder, f"output_dir={folder / 'again'}", "evaluation.sets.knowledge.score=f1")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert "answers of base: known for base, knowledge" in again.stdout
    assert "answers of knowledge: known for base, knowledge" in again.stdout
    assert "generating" not in again.stdout
    before, after = (lines(folder / run / "samples.jsonl") for run in ("run", "again"))
    assert [sample["answers"] for sample in before] == [sample["answers"] for sample in after]


def test_references_that_a_score_cannot_read_are_refused_before_anything_starts(folder: Path) -> None:
    refused = osftx(folder, f"output_dir={folder / 'refused'}", "evaluation.sets.base.score=json_equal")
    assert refused.returncode == 2
    assert "evaluation.sets.base.score=json_equal: cannot read" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert not (folder / "refused").exists()
