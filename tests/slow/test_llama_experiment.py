"""The shipped experiment for 8B models, on a random model of that architecture made small: paths and sizes differ."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "experiments" / "tiny"


def make_small_llama(folder: Path) -> Path:
    """Llama-3.1-8B with each size divided by 64, two layers of its 32 and the vocabulary of the tiny base; bf16."""
    tokenizer = AutoTokenizer.from_pretrained(TINY / "base")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=224,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters={
            "rope_theta": 500000.0,
            "rope_type": "llama3",
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
        },
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    data = TINY / "data"
    overrides = [
        f"model.path={make_small_llama(folder / 'model')}",
        "distributed=cpu",
        "evaluation=knowledge_skills",
        *(f"phases.{name}.data.path={data / name}_train.jsonl" for name in ("knowledge", "skills")),
        *(f"evaluation.sets.{name}.path={data / name}_eval.jsonl" for name in ("knowledge", "skills")),
        "phases.skills.data.limit=300",
        f"output_dir={folder / 'run'}",
        f"store_dir={folder / 'store'}",
    ]
    command = [sys.executable, "-m", "osftx", "+experiment=llama_two_phase", *overrides]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (warning,) = [line for line in done.stdout.splitlines() if "warning" in line]
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
