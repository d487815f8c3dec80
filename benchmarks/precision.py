"""Measures the loss of small updates where weights are rounded to bfloat16, in training and between phases.

    PYTHONPATH=. python benchmarks/precision.py [--significand 4] [--json FILE]

Trains OSFT's updates of the tiny model of experiments/tiny, first facts and then a skill. The starting weights lie on
the grid of bfloat16, as those of published models do. All arithmetic is fp32, in one process, so that only the rounding
of weights differs. `exact` trains on W0 + dW itself, `nearest` on the nearest bfloat16 numbers (as osftx does), and
`dithered` on W0 + dW rounded up or down by noise that stays the same from step to step.

The tiny model learns nothing at the learning rates at which bfloat16 rounds much away. With a significand of fewer bits
than bfloat16's 8, more is rounded away at the rates at which it does learn.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import Rows, write
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedModel, get_scheduler

from osftx.config.schema import DataConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.prepare import prepare
from osftx.data.samples import load_samples
from osftx.methods.osft.decomposition import Bases, leak, split_by_weight
from osftx.methods.osft.layer import dense_update
from osftx.methods.osft.subspace_rule import frozen_rank
from osftx.models.files import read_folder
from osftx.models.targets import find_targets

TINY = Path(__file__).parents[1] / "experiments" / "tiny"
PHASES = ("knowledge", "skills")
RATIOS = (0.3, 0.2)
BATCH = 16
LONGEST = 32
FP32_SIGNIFICAND = 24
DRAWS = 5
"""Number of draws of a stochastic rounding, whose mean is reported."""
IGNORED = -100
Weights = dict[str, Tensor]
Rounding = Callable[[Tensor], Tensor]


@dataclass
class Padded:
    """Padded samples: `ids` and `labels` (samples, longest), with labels of -100 where no loss is counted."""

    ids: Tensor
    labels: Tensor

    @classmethod
    def read(cls, name: str, tokenizer: ChatTokenizer, folder: Path) -> "Padded":
        prepared = prepare(DataConfig(path=str(TINY / "data" / f"{name}.jsonl")), tokenizer, LONGEST, folder)
        assert prepared.folder is not None
        samples = load_samples(prepared.folder)
        ids = torch.zeros(len(samples), LONGEST, dtype=torch.int64)
        labels = torch.full_like(ids, IGNORED)
        for place, sample in enumerate(samples):
            row, counted = torch.tensor(sample["input_ids"]), torch.tensor(sample["counted"])
            ids[place, : len(row)] = row
            labels[place, : len(row)] = torch.where(counted, row, IGNORED)
        return cls(ids, labels)

    def batches(self, steps: int) -> Iterator["Padded"]:
        """Yields batches in random order; every sample comes once before any comes again."""
        order = torch.Generator().manual_seed(0)
        rest = torch.empty(0, dtype=torch.int64)
        for _ in range(steps):
            while len(rest) < BATCH:
                rest = torch.cat([rest, torch.randperm(len(self.ids), generator=order)])
            chosen, rest = rest[:BATCH], rest[BATCH:]
            yield Padded(self.ids[chosen], self.labels[chosen])


def exact(weight: Tensor) -> Tensor:
    return weight


@dataclass
class Grid:
    """The numbers with `significand` bits of significand, 8 for bfloat16."""

    significand: int

    @property
    def step(self) -> int:
        """Distance between two neighbouring numbers, in units of the last bit of fp32."""
        return 1 << (FP32_SIGNIFICAND - self.significand)

    def nearest(self, weight: Tensor) -> Tensor:
        """Returns the nearest number; half a step goes to the even neighbour."""
        bits = weight.contiguous().view(torch.int32)
        return self._down(bits + (self.step // 2 - 1) + ((bits >> (FP32_SIGNIFICAND - self.significand)) & 1))

    def stochastic(self, weight: Tensor, seed: int) -> Tensor:
        """Returns a neighbour above or below, more often the nearer one, so that the mean is `weight`."""
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randint(self.step, weight.shape, generator=draw, dtype=torch.int32)
        return self._down(weight.contiguous().view(torch.int32) + noise)

    def _down(self, bits: Tensor) -> Tensor:
        """Returns the number with these bits of fp32, rounded towards zero."""
        return (bits & -self.step).view(torch.float32)


def loss_of(model: PreTrainedModel, weights: Mapping[str, Tensor], rows: Padded) -> Tensor:
    """Returns the mean loss over the counted tokens."""
    logits = torch.func.functional_call(model, dict(weights), kwargs={"input_ids": rows.ids, "use_cache": False}).logits
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), rows.labels[:, 1:].flatten(), ignore_index=IGNORED)


class Trained:
    """The updates of one phase, relative to the weights from which it starts."""

    def __init__(self, model: PreTrainedModel, start: Weights, ratio: float):
        self.model, self.start = model, start
        self.bases: dict[str, Bases] = {
            name: split_by_weight(weight, min(weight.shape) - frozen_rank(min(weight.shape), ratio))
            for name, weight in start.items()
        }
        self.deltas = {
            name: nn.Parameter(torch.zeros(max(weight.shape), self.bases[name].free.shape[1]))
            for name, weight in start.items()
        }

    def updates(self) -> Weights:
        return {name: dense_update(bases.on_input, bases.free, self.deltas[name]) for name, bases in self.bases.items()}

    def run(self, rows: Padded, steps: int, learning_rate: float, rounding: Rounding) -> None:
        optimizer = torch.optim.AdamW(self.deltas.values(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        schedule = get_scheduler("cosine", optimizer, num_warmup_steps=0, num_training_steps=steps)
        for batch in rows.batches(steps):
            weights = {}
            for name, update in self.updates().items():
                merged = self.start[name] + update
                # The gradient is taken at the rounded weight and passed on to the update unchanged.
                weights[name] = merged + (rounding(merged.detach()) - merged.detach())
            optimizer.zero_grad()
            loss_of(self.model, weights, batch).backward()
            nn.utils.clip_grad_norm_(self.deltas.values(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for name, bases in self.bases.items():
                    self.deltas[name] -= bases.frozen @ (bases.frozen.T @ self.deltas[name])

    def saved(self, rounding: Rounding) -> Weights:
        with torch.no_grad():
            return {name: rounding(self.start[name] + update) for name, update in self.updates().items()}

    def measures(self, saved: Weights) -> dict[str, float]:
        """Returns measures of the saved change over all weights.

        `norm` is its norm relative to the update, `update_kept` its share along the update, and `leak_saved` its worst
        leak.
        """
        with torch.no_grad():
            updates = self.updates()
            changes = {name: weight - self.start[name] for name, weight in saved.items()}
            squared = sum(float(update.square().sum()) for update in updates.values())
            along = sum(float((changes[name] * update).sum()) for name, update in updates.items())
            norm = sum(float(change.square().sum()) for change in changes.values())
            worst = max(leak(change, self.bases[name]) for name, change in changes.items())
        return {"norm": (norm / squared) ** 0.5, "update_kept": along / squared, "leak_saved": worst}


def mean(figures: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(one[key] for one in figures) / len(figures) for key in figures[0]}


class Bench:
    def __init__(self, folder: Path, grid: Grid):
        self.grid = grid
        base = TINY / "base"
        tokenizer = ChatTokenizer.load(str(base), None)
        self.model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).float().requires_grad_(False)
        files = read_folder(base)
        parameters = dict(self.model.named_parameters())
        names = [f"{target.name}.weight" for target in find_targets(files.config, files.shapes, None)]
        self.start = {name: grid.nearest(parameters[name].detach()) for name in names}
        self.train = {name: Padded.read(f"{name}_train", tokenizer, folder) for name in PHASES}
        self.held_out = {name: Padded.read(f"{name}_eval", tokenizer, folder) for name in PHASES}

    def loss(self, phase: str, weights: Weights) -> float:
        with torch.no_grad():
            return float(loss_of(self.model, weights, self.held_out[phase]))

    def measured(self, trained: Trained, phase: str, rounding: Rounding) -> dict[str, float]:
        saved = trained.saved(rounding)
        return {"loss": self.loss(phase, saved), **trained.measures(saved)}

    def one_phase(self, learning_rate: float, steps: int) -> Iterator[dict[str, Any]]:
        """Yields one row for each rounding in training and each rounding on saving."""
        phase = PHASES[0]
        before = self.loss(phase, self.start)
        dithered = partial(self.grid.stochastic, seed=0)
        for training, rounding in {"exact": exact, "nearest": self.grid.nearest, "dithered": dithered}.items():
            trained = Trained(self.model, self.start, RATIOS[0])
            trained.run(self.train[phase], steps, learning_rate, rounding)
            row: dict[str, Any] = {"learning_rate": learning_rate, "steps": steps, "trained": training}
            draws = [self.measured(trained, phase, partial(self.grid.stochastic, seed=draw)) for draw in range(DRAWS)]
            yield row | {"saved": "float32", "loss_before": before, **self.measured(trained, phase, exact)}
            yield row | {"saved": "nearest", "loss_before": before, **self.measured(trained, phase, self.grid.nearest)}
            yield row | {"saved": "stochastic", "loss_before": before, **mean(draws)}

    def two_phases(self, learning_rate: float, steps: int) -> Iterator[dict[str, Any]]:
        """Yields one row for each rounding of the weights that the first phase passes to the second.

        Everything else is as in osftx.
        """
        first = Trained(self.model, self.start, RATIOS[0])
        first.run(self.train[PHASES[0]], steps, learning_rate, self.grid.nearest)
        ways = {"float32": exact, "nearest": self.grid.nearest, "stochastic": partial(self.grid.stochastic, seed=1)}
        for name, rounding in ways.items():
            second = Trained(self.model, first.saved(rounding), RATIOS[1])
            second.run(self.train[PHASES[1]], steps, learning_rate, self.grid.nearest)
            saved = second.saved(self.grid.nearest)
            yield {
                "learning_rate": learning_rate,
                "steps": steps,
                "handed_on": name,
                **{f"loss_{phase}": self.loss(phase, saved) for phase in PHASES},
                **{f"loss_{phase}_before": self.loss(phase, self.start) for phase in PHASES},
                **second.measures(saved),
            }


def show(row: dict[str, Any]) -> None:
    cells = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
    print("  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[5e-6, 1e-5, 1e-4])
    parser.add_argument("--steps", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--significand", type=int, default=8, help="bits of the grid; 8 is bfloat16")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    torch.manual_seed(0)
    rows: Rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), Grid(args.significand))
        for learning_rate in args.learning_rates:
            for steps in args.steps:
                for measure in (bench.one_phase, bench.two_phases):
                    for row in measure(learning_rate, steps):
                        show(row)
                        rows.append(row)
    if args.json is not None:
        write(args.json, {key: value for key, value in vars(args).items() if key != "json"}, rows)


if __name__ == "__main__":
    main()
