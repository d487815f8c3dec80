"""What a training step of OSFT costs against one of plain fine-tuning: step times, their ratios, the shares of upkeep.

    python benchmarks/step_cost.py [--ranks 2] [--hidden 1024 --layers 1] [--dtype bfloat16] [--rounds 7] [--json FILE]

All engines of a table live in one process group, and their steps take turns, so that what else the machine does falls
on all of them. The ratio to plain fine-tuning (`sft`) is taken within each round; the table shows its median, its
range, and the ratio of the fastest steps, which suffers least from what else goes on. `merged` is what osftx trains;
`residual` is `y = x W0^T + (x basis) delta^T`, which it trained before, and lives here alone. The model is a random
Llama with a small vocabulary, so nearly all its work is in the targets.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

FORMS = ("residual", "merged")
TOKENS = (4, 512)
"""Sequences a step and rank, and their length."""
VOCABULARY = 512


def residual(model: Any) -> None:
    """Put the residual form in the place of each OsftLinear, with the same parameters."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    from osftx.osft.layer import FreeUpdate, OsftLinear

    class Term(nn.Module):
        def __init__(self, update: FreeUpdate):
            super().__init__()
            self.on_input, self.basis, self.delta = update.on_input, update.basis, update.delta

        def forward(self, x: Tensor) -> Tensor:
            first, second = (self.basis, self.delta) if self.on_input else (self.delta, self.basis)
            return functional.linear(x @ first, second)

    class Residual(nn.Module):
        def __init__(self, layer: OsftLinear):
            super().__init__()
            self.weight, self.bias = layer.weight, layer.bias
            self.terms = nn.ModuleList([Term(update) for update in layer.updates])

        def forward(self, x: Tensor) -> Tensor:
            dense = functional.linear(x, self.weight, self.bias)
            return dense + torch.cat([term(x) for term in self.terms], dim=-1)

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, OsftLinear)]
    for name, layer in layers:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, Residual(layer))


class Upkeep:
    """Times what runs after the optimizer's step."""

    def __init__(self, *hooks: Callable[[], None]):
        self.hooks, self.spent_s = hooks, 0.0

    def __call__(self, *_: object) -> None:
        begun = time.perf_counter()
        for hook in self.hooks:
            hook()
        self.spent_s += time.perf_counter() - begun


def build(folder: Path, training: Any, form: str, ratio: float) -> tuple[Any, Upkeep]:
    """An engine for one row of the table."""
    from osftx.config import ModelConfig
    from osftx.model_folder import read_folder
    from osftx.osft.eigenvectors import Eigenvectors
    from osftx.osft.merging import Merging
    from osftx.osft.projection import Projection
    from osftx.osft.subspace import open_subspaces
    from osftx.osft.targets import find_targets
    from osftx.training.engine import initialize, load_model, zero_config

    model = load_model(folder, ModelConfig(path=str(folder)), training)
    spaces = []
    if form != "sft":
        files = read_folder(folder)
        targets = find_targets(files.config, files.shapes, None)
        ratios = dict.fromkeys((target.name for target in targets), ratio)
        known = Eigenvectors(folder.parent / "eigenvectors")
        spaces = open_subspaces(model, targets, ratios, zero_config(training), None, None, known)
    if form == "residual":
        residual(model)
    engine, optimizer, _ = initialize(model, training, 1000)
    upkeep = Upkeep(Projection(spaces), *([Merging(spaces)] if form == "merged" else []))
    assert optimizer is not None
    optimizer.register_step_post_hook(upkeep)
    engine.train()
    return engine, upkeep


def step(engine: Any, ids: Any) -> float:
    """Seconds of one optimizer step, on the slowest rank."""
    import torch
    import torch.distributed as dist
    from deepspeed.accelerator import get_accelerator

    dist.barrier()
    begun = time.perf_counter()
    engine.backward(engine(input_ids=ids, labels=ids, use_cache=False).loss)
    engine.step()
    get_accelerator().synchronize()
    taken = torch.tensor(time.perf_counter() - begun, device=ids.device)
    dist.all_reduce(taken, dist.ReduceOp.MAX)
    return taken.item()


def measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The rows of the table, on every rank."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from osftx.config import Precision, TrainingConfig
    from osftx.training.engine import init_distributed

    device = init_distributed(600)
    rank = torch.distributed.get_rank()
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=args.hidden,
        intermediate_size=args.hidden * 11 // 4,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64,
        num_key_value_heads=args.hidden // 128,
        tie_word_embeddings=False,
    )
    if rank == 0:
        LlamaForCausalLM(config).save_pretrained(folder / "model")
    torch.distributed.barrier()
    precision = Precision(args.dtype)
    training = TrainingConfig(
        use_liger=False, activation_checkpointing=args.checkpointing, train_dtype=precision, learning_rate=1e-4
    )
    rows = [("sft", 1.0), *((form, ratio) for ratio in args.ratios for form in FORMS)]
    engines = [build(folder / "model", training, form, ratio) for form, ratio in rows]
    torch.manual_seed(rank)
    ids = torch.randint(VOCABULARY, TOKENS, device=device)
    for engine, upkeep in engines:
        step(engine, ids)  # the first one allocates, and records what ZeRO-3 gathers ahead
        upkeep.spent_s = 0.0
    times = [[step(engine, ids) for engine, _ in engines] for _ in range(args.rounds)]
    table = []
    for place, (form, ratio) in enumerate(rows):
        own = [round_[place] for round_ in times]
        against = [round_[place] / round_[0] for round_ in times]
        table.append(
            {
                "form": form,
                "unfreeze_rank_ratio": ratio,
                "step_s": statistics.median(own),
                "step_s_range": [min(own), max(own)],
                "against_sft": statistics.median(against),
                "against_sft_range": [min(against), max(against)],
                "fastest_against_sft": min(own) / min(round_[0] for round_ in times),
                "upkeep_share": engines[place][1].spent_s / sum(own),
            }
        )
    torch.distributed.destroy_process_group()
    return table if rank == 0 else []


def show(table: list[dict[str, Any]]) -> None:
    print(f"{'form':<10} {'ratio':>5} {'step':>9} {'against sft':>12} {'range':>14} {'fastest':>8} {'upkeep':>7}")
    for row in table:
        low, high = row["against_sft_range"]
        print(
            f"{row['form']:<10} {row['unfreeze_rank_ratio']:>5} {row['step_s']:>7.3f} s {row['against_sft']:>12.2f} "
            f"{f'{low:.2f} to {high:.2f}':>14} {row['fastest_against_sft']:>8.2f} {row['upkeep_share']:>7.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=512, help="size of the hidden state, a multiple of 128")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.2, 0.3])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--checkpointing", action="store_true", help="activations are computed again")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # of the ranks
    args = parser.parse_args()
    if args.folder is None:
        threads = str(max(1, (os.cpu_count() or 1) // args.ranks))
        own = {"OMP_NUM_THREADS": threads, "DS_ACCELERATOR": args.device, "PYTHONWARNINGS": "ignore::FutureWarning"}
        environment = {**own, **os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={args.ranks}")
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([*launcher, *sys.argv, "--folder", folder], env=environment, check=True)
        return
    table = measure(args, args.folder)
    if not table:
        return
    show(table)
    if args.json is not None:
        settings = {key: value for key, value in vars(args).items() if key not in ("json", "folder")}
        packages = {package: version(package) for package in ("torch", "deepspeed", "transformers")}
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg(), **packages}
        content = {**settings, "tokens": TOKENS[0] * TOKENS[1], "rows": table, **machine}
        args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
