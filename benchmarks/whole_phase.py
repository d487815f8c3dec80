"""Measures one phase of the recipe for 8B models on one GPU, from command to checkpoint: time of its parts, memory.

    python benchmarks/whole_phase.py [--layers 32] [--subspace activations] [--samples 128] [--json FILE]

The model is random and has the shapes of Llama-3.1-8B (fewer layers with `--layers`), the tokenizer is that of the tiny
base, and the conversations are random words of its data. Everything else is `llama_two_phase` as shipped, on one GPU.
`stages` are the seconds between the first and the last line of each progress bar of the run, `step_s` is the median of
all steps but the first, and `estimated_memory` (bytes) is what the plan estimated before anything was started.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import write

from osftx.results.run_reader import read_run

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "experiments" / "tiny"


def make_model(folder: Path, layers: int, device: str) -> int:
    """Writes a random Llama-3.1-8B with this many layers, in bf16; returns the number of its parameters."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    tokenizer = AutoTokenizer.from_pretrained(TINY / "base")
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def make_data(file: Path, samples: int, words: int) -> Path:
    """Writes conversations of random words of the tiny experiment's data."""
    rows = [json.loads(line) for line in (TINY / "data" / "base_keep.jsonl").open()]
    known = sorted({word for row in rows for message in row["messages"] for word in message["content"].split()})
    draw = random.Random(0)
    with file.open("w") as written:
        for _ in range(samples):
            question, answer = (" ".join(draw.choices(known, k=count)) for count in (8, words - 8))
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            written.write(json.dumps({"messages": messages}) + "\n")
    return file


def watched(command: list[str]) -> dict[str, float]:
    """Runs the command and shows its output; returns the seconds of each progress bar and of the whole command."""
    begun = time.monotonic()
    stages: dict[str, float] = {}
    first_bar = bar_begun = done = 0.0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            title, colon, rest = line.partition(": ")
            if colon and " gone, " in rest:
                now = time.monotonic() - begun
                if rest.startswith("0/"):
                    bar_begun, first_bar = now, first_bar or now
                    done = stages.get(title, 0.0)
                stages[title] = done + now - bar_begun
    if running.returncode != 0:
        raise SystemExit(running.returncode)
    return {"until the first bar": first_bar, **stages, "command": time.monotonic() - begun}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    parameters = make_model(folder / "model", args.layers, args.device)
    data = make_data(folder / "data.jsonl", args.samples, args.words)
    kept = make_data(folder / "kept.jsonl", 64, args.words)
    command = [
        *(sys.executable, "-m", "osftx", "+experiment=llama_two_phase", "distributed=single_gpu", "~phases.skills"),
        *(f"model.path={folder / 'model'}", f"phases.knowledge.data.path={data}", "reuse=false"),
        *(f"training.effective_batch_size={args.batch}", "training.num_epochs=1", f"output_dir={folder / 'run'}"),
        *(f"osft.subspace={args.subspace}", f"distributed.offload.bases={str(args.bases_on_host).lower()}"),
        *([f"+preserve.data.path={kept}"] if args.subspace == "activations" else []),
        *args.overrides,
    ]
    stages = watched(command)
    (phase,) = read_run(folder / "run").phases
    steps, result = phase.steps, phase.record or {}
    later = steps[1:]
    return {
        "parameters": parameters,
        "device": result["device"],
        "stages": stages,
        "steps": len(steps),
        "step_s": statistics.median(line["time_per_batch"] for line in later),
        "tokens_per_s": statistics.median(line["tokens_per_second"] for line in later),
        "tokens_a_step": statistics.median(line["num_total_tokens"] for line in later),
        "peak_gb": max(line["peak_memory_usage_GB"] for line in steps),
        "estimated_memory": phase.plan["memory"],
        "leak_fp32": max(target["leak_fp32"] for target in result["targets"]),
        "leak_saved": max(target["leak_saved"] for target in result["targets"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--subspace", default="weights", choices=["weights", "activations"])
    parser.add_argument("--bases-on-host", action="store_true", help="distributed.offload.bases=true")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--words", type=int, default=512, help="of a conversation")
    parser.add_argument("--batch", type=int, default=16, help="training.effective_batch_size")
    parser.add_argument("--device", default="cuda", help="where the random weights are drawn")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("overrides", nargs="*", help="of the command, such as distributed=cpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(args, Path(folder))
    print(json.dumps(row, indent=2))
    if args.json is not None:
        write(args.json, {key: value for key, value in vars(args).items() if key != "json"}, [row])


if __name__ == "__main__":
    main()
