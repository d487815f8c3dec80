"""Shared code of the benchmarks: starting ranks, a model and data, engines as osftx builds them, a JSON file.

A benchmark calls `on_ranks(arguments, measure, show)`. `measure` runs on every rank and returns the rows that rank 0
shows and writes.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "deepspeed", "transformers", "peft", "rhai-innovation-mini-trainer")
VOCABULARY = 512
"""Size of the vocabulary, small so that nearly all the work is in the targets."""
Rows = list[dict[str, Any]]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that all benchmarks on ranks share."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=512, help="size of the hidden state, a multiple of 128")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=4, help="of a step, on each rank")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.2, 0.3], help="unfreeze ratios")
    parser.add_argument("--checkpointing", action="store_true", help="activations are computed again")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # set only on the ranks
    return parser


def on_ranks(
    args: argparse.Namespace, measure: Callable[[argparse.Namespace, Path], Rows], show: Callable[[Rows], None]
) -> None:
    """Starts the script again on its ranks, which measure; rank 0 shows and writes the rows."""
    if args.folder is None:
        threads = str(max(1, (os.cpu_count() or 1) // args.ranks))
        own = {"OMP_NUM_THREADS": threads, "DS_ACCELERATOR": args.device, "PYTHONWARNINGS": "ignore::FutureWarning"}
        launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={args.ranks}")
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([*launcher, *sys.argv, "--folder", folder], env={**own, **os.environ}, check=True)
        return
    rows = measure(args, args.folder)
    if os.environ["RANK"] == "0":
        show(rows)
        if args.json is not None:
            write(args.json, {key: value for key, value in vars(args).items() if key not in ("json", "folder")}, rows)


def write(path: Path, settings: dict[str, Any], rows: Rows) -> None:
    """Writes the figures with the settings, the machine and the versions to which they belong."""
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": list(os.getloadavg()), **packages}
    if settings.get("device") == "cuda":
        import torch

        machine |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": settings, "machine": machine, "rows": rows}, indent=2) + "\n")


def make_model(folder: Path, args: argparse.Namespace) -> Path:
    """Writes a random Llama: a middle 11/4 as wide as the hidden state, half as many key-value heads, few words."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=args.hidden,
        intermediate_size=args.hidden * 11 // 4,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64,
        num_key_value_heads=args.hidden // 128,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).to(getattr(torch, args.dtype)).save_pretrained(folder)
    return folder


def make_samples(folder: Path, args: argparse.Namespace, count: int) -> Path:
    """Writes `count` random samples, in which every token counts."""
    import numpy as np
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    from osftx.data.samples import SAMPLES_FILE

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    features = Features({"input_ids": List(Value("int32")), "counted": List(Value("bool"))})
    with ArrowWriter(path=str(folder / SAMPLES_FILE), features=features) as writer:
        for ids in random.integers(VOCABULARY, size=(count, args.length)):
            writer.write({"input_ids": ids.tolist(), "counted": [True] * args.length})
        writer.finalize()
    return folder


def training_config(args: argparse.Namespace) -> Any:
    """Returns the training settings; a micro-batch holds all tokens of a rank in a step."""
    from osftx.config.schema import Precision, TrainingConfig

    return TrainingConfig(
        use_liger=args.device == "cuda",
        activation_checkpointing=args.checkpointing,
        train_dtype=Precision(args.dtype),
        learning_rate=1e-4,
        effective_batch_size=args.sequences * args.ranks,
        max_tokens_per_gpu=args.sequences * args.length,
        max_seq_len=args.length,
    )


def osftx_engine(
    model: Path,
    training: Any,
    ratio: float | None,
    change: Callable[[Any], None] | None,
    wrap: Callable[[Any], Any],
) -> tuple[Any, list[Any]]:
    """Returns the engine with which osftx trains, and the callbacks after the step of its optimizer.

    With `ratio` None it is the engine of plain fine-tuning. `change` may first replace layers of the model; `wrap`
    wraps each callback. The eigenvectors are cached beside the model, because they do not depend on the ratio.
    Collective.
    """
    from osftx.config.schema import DistributedConfig, ModelConfig, OsftConfig
    from osftx.distributed.engine import after_each_step, initialize
    from osftx.distributed.load_model import load_model
    from osftx.distributed.source_weights import SourceWeights
    from osftx.distributed.zero_config import zero_config
    from osftx.methods.osft.eigenvector_cache import EigenvectorCache
    from osftx.methods.osft.projection import Projection
    from osftx.methods.osft.rules import rule_of
    from osftx.methods.osft.setup import open_subspaces
    from osftx.methods.osft.weight_update import Merging
    from osftx.models.files import read_folder
    from osftx.models.targets import find_targets

    distributed, source = DistributedConfig(), SourceWeights(model)
    loaded = load_model(model, ModelConfig(path=str(model)), training, distributed)
    hooks: list[Any] = []
    spaces = []
    if ratio is not None:
        files = read_folder(model)
        targets = find_targets(files.config, files.shapes, None)
        ratios = dict.fromkeys((target.name for target in targets), ratio)
        known = EigenvectorCache(model.parent / "eigenvectors")
        settings, rule = zero_config(training, distributed), rule_of(OsftConfig())
        spaces = open_subspaces(loaded, targets, ratios, rule, settings, source, None, None, known)
    else:
        loaded.requires_grad_(True)
    if change is not None:
        change(loaded)
    engine, *_ = initialize(loaded, training, 1000, distributed)
    if spaces:
        hooks = [wrap(Projection(spaces)), *([wrap(Merging(spaces, source))] if change is None else [])]
        after_each_step(engine, *hooks)
    engine.train()
    return engine, hooks


@dataclass
class Bench:
    """The device, the training settings, and the model and samples on disk that every rank of a benchmark has."""

    device: Any
    training: Any
    model: Path
    samples: Path

    @classmethod
    def prepare(cls, args: argparse.Namespace, folder: Path) -> "Bench":
        """Joins the ranks; the first one writes the model and the samples. Collective."""
        import torch.distributed as dist

        from osftx.distributed.engine import init_distributed

        bench = cls(init_distributed(600), training_config(args), folder / "model", folder / "samples")
        if dist.get_rank() == 0:
            make_model(bench.model, args)
            make_samples(bench.samples, args, args.sequences * args.ranks)
        dist.barrier()
        return bench

    def step(
        self,
        ratio: float | None,
        change: Callable[[Any], None] | None = None,
        wrap: Callable[[Any], Any] = lambda hook: hook,
    ) -> tuple[Callable[[], object], list[Any]]:
        """Returns an optimizer step as osftx runs it, including packing, and the callbacks after it.

        The arguments are those of `osftx_engine`.
        """
        from osftx.training.batches import Samples, plan_step
        from osftx.training.trainer import Trainer

        engine, hooks = osftx_engine(self.model, self.training, ratio, change, wrap)
        trainer = Trainer(Samples(self.samples), self.training, self.device)

        def step() -> None:
            tokens = self.training.max_tokens_per_gpu
            planned = plan_step(
                trainer.samples, trainer.steps[0], tokens, trainer.rank, trainer.world_size, self.device
            )
            trainer.step(engine, planned)

        return step, hooks
