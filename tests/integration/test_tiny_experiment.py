"""The shipped experiment, run as a user runs it: `python -m osftx +experiment=tiny_two_phase`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import ROOT
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = ROOT / "experiments" / "tiny" / "base"
COMMAND = [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", "reuse=false"]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def osftx(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *overrides], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment as it is shipped, by weights; on one rank, which is what two come to up to rounding."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    done = osftx(f"output_dir={folder}", "distributed.nproc_per_node=1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for expected in ("Plan of tiny_two_phase", "Phase 2 of 2: skills", "average accuracy", "report.html"):
        assert expected in done.stdout
    return folder


@pytest.fixture(scope="module")
def run_in_bfloat16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short first phase whose weights are saved in the precision of the base."""
    folder = tmp_path_factory.mktemp("tiny") / "bfloat16"
    short = ("~phases.skills", "phases.knowledge.num_epochs=10", "training.save_dtype=bfloat16")
    done = osftx(*short, f"output_dir={folder}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def weights(checkpoint: Path) -> dict[str, Tensor]:
    return load_file(checkpoint / "model.safetensors")


def test_run_folder_holds_what_the_contract_says(run_folder: Path) -> None:
    for name in ("config.yaml", "plan.json", "results.json", "report.html"):
        assert (run_folder / name).stat().st_size > 0
    assert list((run_folder / "figures").glob("*.png"))
    for phase in ("01_knowledge", "02_skills"):
        for name in (
            "phase.yaml",
            "metrics.jsonl",
            "result.json",
            "checkpoint/config.json",
            "checkpoint/tokenizer.json",
        ):
            assert (run_folder / "phases" / phase / name).exists(), (phase, name)
        assert (run_folder / "phases" / phase / "checkpoint" / "generation_config.json").exists()
    assert not list(run_folder.rglob("*.partial"))
    found = results(run_folder)
    assert found["experiment"] == "tiny_two_phase"
    assert [phase["unfreeze_rank_ratio"] for phase in found["phases"]] == [0.3, 0.2]
    assert found["retention"]["states"] == ["base", "knowledge", "skills"]
    assert found["retention"]["sets"] == ["base", "knowledge", "skills"]
    assert found["objective"] == found["summary"]["average_accuracy"]
    for phase in found["phases"]:
        assert (run_folder / phase["checkpoint"]).is_dir()
        lines = (run_folder / "phases").glob(f"*_{phase['name']}/metrics.jsonl")
        assert len(next(lines).read_text().splitlines()) == phase["steps"]


def test_it_learns_and_keeps(run_folder: Path) -> None:
    """The floor of what the table in docs/results/results.md shows, with room for another machine's rounding."""
    base, knowledge, skills = results(run_folder)["retention"]["metrics"]["exact_match"]
    assert base[0] >= 0.99
    assert knowledge[1] >= base[1] + 0.8
    assert skills[2] >= 0.85 > base[2]
    assert min(knowledge[0], skills[0]) >= 0.25


def test_last_checkpoint_answers(run_folder: Path) -> None:
    """Greedy generation with the chat template, from the folder alone, agrees with the measured exact match."""
    checkpoint = run_folder / "phases" / "02_skills" / "checkpoint"
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    rows = [json.loads(line) for line in (ROOT / "experiments/tiny/data/skills_eval.jsonl").open()][:40]
    right = 0
    for row in rows:
        *asked, answer = row["messages"]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        generated = model.generate(**prompt, max_new_tokens=24, do_sample=False)
        said = tokenizer.decode(generated[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        right += said.strip() == answer["content"]
    measured = results(run_folder)["retention"]["metrics"]["exact_match"][-1][-1]
    assert right / len(rows) == pytest.approx(measured, abs=0.1)


def leaks(source: Path, checkpoint: Path, ratio: float) -> list[float]:
    """Of each target, judged by a full SVD of the starting weights, from the saved files alone.

    Everything else must be what it was, bit for bit (in float32, which holds every bfloat16 exactly).
    """
    before, after = weights(source), weights(checkpoint)
    assert before.keys() == after.keys()
    targets = [name for name in before if name.removesuffix(".weight").endswith(TARGETS)]
    assert len(targets) == 7 * json.loads((BASE / "config.json").read_text())["num_hidden_layers"]
    for name in before.keys() - targets:
        assert torch.equal(before[name].float(), after[name].float()), name
    found = []
    for name in targets:
        change = after[name].double() - before[name].double()
        u, _, vh = torch.linalg.svd(before[name].double(), full_matrices=False)
        frozen = int(len(vh) * (1 - ratio) + 1e-9)
        leak = max((u[:, :frozen].T @ change).norm(), (change @ vh[:frozen].T).norm()) / change.norm()
        found.append(leak.item())
    return found


def test_the_update_stays_in_the_free_subspace(run_folder: Path) -> None:
    first, second = (run_folder / "phases" / phase / "checkpoint" for phase in ("01_knowledge", "02_skills"))
    assert max(leaks(BASE, first, ratio=0.3)) <= 1e-5
    assert max(leaks(first, second, ratio=0.2)) <= 1e-5
    for phase in results(run_folder)["phases"]:
        assert phase["preservation"]["leak_fp32"] <= 1e-5


def test_what_is_saved_in_bfloat16_leaks_by_its_rounding_alone(run_in_bfloat16: Path) -> None:
    checkpoint = run_in_bfloat16 / "phases" / "01_knowledge" / "checkpoint"
    assert weights(checkpoint)["model.embed_tokens.weight"].dtype == torch.bfloat16
    found = leaks(BASE, checkpoint, ratio=0.3)
    assert 1e-4 < max(found) <= 0.03
    (phase,) = results(run_in_bfloat16)["phases"]
    assert phase["preservation"]["leak_fp32"] <= 1e-5
    assert phase["preservation"]["leak_saved"] == pytest.approx(max(found), rel=0.05)
