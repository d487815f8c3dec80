"""`llama_two_phase`, the shipped experiment for 8B models, on a random model of that architecture made small."""

import subprocess
import sys
from pathlib import Path

import torch
from checkout import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

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


def run_small_llama(folder: Path, *overrides: str) -> str:
    """Run the experiment in `folder`/run with paths and sizes of its own; returns what it has shown."""
    data = TINY / "data"
    own = [
        f"model.path={make_small_llama(folder / 'model')}",
        "evaluation=knowledge_skills",
        *(f"phases.{name}.data.path={data / name}_train.jsonl" for name in ("knowledge", "skills")),
        *(f"evaluation.sets.{name}.path={data / name}_eval.jsonl" for name in ("knowledge", "skills")),
        "phases.skills.data.limit=300",
        f"output_dir={folder / 'run'}",
        f"store_dir={folder / 'store'}",
    ]
    command = [sys.executable, "-m", "osftx", "+experiment=llama_two_phase", *own, *overrides]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
