"""Shipped experiments on one GPU, run as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_llama import ROOT, run_small_llama
from transformers import AutoModelForCausalLM

ONE_GPU = ("distributed=single_gpu", "distributed.exclusive_devices=false")


@pytest.mark.parametrize("subspace", ["weights", "activations"])
def test_the_tiny_experiment_learns_and_keeps(tmp_path: Path, subspace: str) -> None:
    """Written for two ranks of a CPU, in fp32; the floor is that of the test there."""
    folder = tmp_path / "run"
    own = (f"osft.subspace={subspace}", "reuse=false", f"output_dir={folder}")
    gpu = (*ONE_GPU, "distributed.accelerator=cuda")
    command = [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", *own, *gpu]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    print(done.stdout)
    found = json.loads((folder / "results.json").read_text())
    base, knowledge, skills = found["retention"]["metrics"]["exact_match"]
    assert base[0] >= 0.99
    assert knowledge[1] >= base[1] + 0.8
    assert skills[2] >= 0.85 > base[2]
    assert min(knowledge[0], skills[0]) >= (0.9 if subspace == "activations" else 0.25)
    assert all(phase["preservation"]["leak_fp32"] <= 1e-5 for phase in found["phases"])


def test_the_recipe_for_8b_models_runs_with_its_own_settings(tmp_path: Path) -> None:
    """bf16, Liger's kernels, activations computed again: all that `distributed=cpu` turns off elsewhere."""
    print(run_small_llama(tmp_path, *ONE_GPU))
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [phase["steps"] for phase in found["phases"]] == [2, 5]
    assert all(phase["preservation"]["leak_fp32"] <= 1e-5 for phase in found["phases"])
    last = tmp_path / "run" / "phases" / "02_skills" / "checkpoint"
    old, new = (load_file(folder / "model.safetensors") for folder in (tmp_path / "model", last))
    moved = [name for name in old if not torch.equal(old[name], new[name])]
    assert moved
    assert all(".self_attn." in name or ".mlp." in name for name in moved)
    assert AutoModelForCausalLM.from_pretrained(last).dtype == torch.bfloat16
