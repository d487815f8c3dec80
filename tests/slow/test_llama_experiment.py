"""The shipped experiment for 8B models, on a random model of that architecture made small: paths and sizes differ."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_llama import run_small_llama
from transformers import AutoModelForCausalLM


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    shown = run_small_llama(folder, "distributed=cpu")
    (warning,) = [line for line in shown.splitlines() if "warning" in line]
    assert "of the update of skills is in the saved weights" in warning
    return folder / "run"


def test_it_runs_with_the_settings_of_the_recipe(run_folder: Path) -> None:
    results = json.loads((run_folder / "results.json").read_text())
    phases = results["phases"]
    assert [phase["unfreeze_rank_ratio"] for phase in phases] == [0.3, 0.2]
    assert [phase["steps"] for phase in phases] == [2, 5]  # two epochs of 120 and of 300 samples, 128 a step
    assert results["retention"]["states"] == ["base", "knowledge", "skills"]
    lines = (run_folder / "phases" / "01_knowledge" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["lr"] == 5e-6
    for phase in phases:
        assert phase["preservation"]["leak_fp32"] <= 1e-5
    handed_on, last = (phase["preservation"]["update_kept"] for phase in phases)
    assert last < 0.9 < handed_on == pytest.approx(1.0, abs=1e-2)


def test_what_it_leaves_is_the_same_architecture(run_folder: Path) -> None:
    start = run_folder.parent / "model"
    last = run_folder / "phases" / "02_skills" / "checkpoint"
    config, before = (json.loads((folder / "config.json").read_text()) for folder in (last, start))
    assert config["rope_parameters"] == before["rope_parameters"]
    assert config["dtype"] == before["dtype"] == "bfloat16"
    old, new = (load_file(folder / "model.safetensors") for folder in (start, last))
    moved = [name for name in old if not torch.equal(old[name], new[name])]
    assert moved, "at this learning rate few weights change by a step of bfloat16, but some do"
    assert all(".self_attn." in name or ".mlp." in name for name in moved)
    assert AutoModelForCausalLM.from_pretrained(last).dtype == torch.bfloat16
