"""Estimates from shapes what a rank holds in large models: the tables of docs/operations/memory.md.

    python benchmarks/paper_memory.py [--tokens 10000] [--json FILE]

The models are Llama-3.1 in bf16 with Liger's kernels and activation checkpointing. Gigabytes are 10^9 bytes. Nothing is
measured.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from harness import Rows, write

from osftx.config.schema import OffloadConfig, OsftConfig, TrainingConfig
from osftx.methods.registry import method_named
from osftx.methods.sizes import Shape, Workload
from osftx.models.targets import find_targets
from osftx.planning.estimate.memory import Memory, of_phase

VOCABULARY, NARROW = 128256, 1024
"""Size of the vocabulary and number of features of keys and values, the same for all three models."""
MODELS = {"8B": (4096, 14336, 32), "70B": (8192, 28672, 80), "405B": (16384, 53248, 126)}
"""(hidden, middle, layers) of each model."""
RANKS = {"8B": (1, 8, 64), "70B": (8, 64, 512), "405B": (8, 64, 512)}
RATIOS = (None, 0.1, 0.3)
"""Unfreeze ratios; None stands for plain fine-tuning."""
OFFLOADS = {
    "device": OffloadConfig(),
    "bases": OffloadConfig(bases=True),
    "both": OffloadConfig(optimizer=True, bases=True),
}


def shapes(hidden: int, middle: int, layers: int) -> dict[str, Shape]:
    """Returns the shapes of a Llama's tensors."""
    found: dict[str, Shape] = {
        "model.embed_tokens.weight": (VOCABULARY, hidden),
        "lm_head.weight": (VOCABULARY, hidden),
    }
    for place in range(layers):
        layer = f"model.layers.{place}"
        found |= {f"{layer}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qo"}
        found |= {f"{layer}.self_attn.{name}_proj.weight": (NARROW, hidden) for name in "kv"}
        found |= {f"{layer}.mlp.{name}_proj.weight": (middle, hidden) for name in ("gate", "up")}
        found |= {f"{layer}.mlp.down_proj.weight": (hidden, middle)}
        found |= {f"{layer}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    return found | {"model.norm.weight": (hidden,)}


def estimate(model: str, ratio: float | None, ranks: int, offload: OffloadConfig, tokens: int) -> Memory:
    weights = shapes(*MODELS[model])
    return of_phase(
        Workload(
            shapes=weights,
            targets=[] if ratio is None else find_targets({"model_type": "llama"}, weights, None),
            method=method_named("sft" if ratio is None else "osft"),
            ratio=ratio,
            training=TrainingConfig(max_tokens_per_gpu=tokens),
            osft=OsftConfig(),
            offload=offload,
            ranks=ranks,
        )
    )


def rows(tokens: int) -> Rows:
    found: Rows = []
    for model in MODELS:
        for ranks in RANKS[model]:
            for ratio in RATIOS:
                row = {"model": model, "ranks": ranks, "unfreeze_rank_ratio": ratio}
                for name, offload in OFFLOADS.items():
                    row[name] = asdict(estimate(model, ratio, ranks, offload, tokens))
                found.append(row)
    return found


def show(found: Rows) -> None:
    """Prints the estimates as Markdown."""
    print("| model | ranks | ratio | between steps | peak | bases on host: peak, host | both: peak, host |")
    print("|---|---|---|---|---|---|---|")
    for row in found:
        gigabytes = {
            f"{name} {key}": f"{row[name][key] / 1e9:.1f}"
            for name in OFFLOADS
            for key in ("between_steps", "peak", "on_host")
        }
        ratio = "sft" if row["unfreeze_rank_ratio"] is None else row["unfreeze_rank_ratio"]
        aside = "{bases peak}, {bases on_host}" if ratio != "sft" else "-"
        cells = "{device between_steps} | {device peak} | " + aside + " | {both peak}, {both on_host}"
        print(f"| {row['model']} | {row['ranks']} | {ratio} | {cells.format(**gigabytes)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=10000, help="of a micro-batch on each rank")
    parser.add_argument("--json", type=Path, help="write the figures there, part by part")
    args = parser.parse_args()
    found = rows(args.tokens)
    show(found)
    if args.json is not None:
        write(args.json, {"tokens": args.tokens}, found)


if __name__ == "__main__":
    main()
