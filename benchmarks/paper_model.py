"""Counts on paper what OSFT costs against plain fine-tuning on many GPUs: operations, memory, bytes sent.

    python benchmarks/paper_model.py [--model 8B] [--tokens 8192] [--micro-batches 1] [--json FILE]

The model is Llama-3.1 under ZeRO-3 in bf16. For each rank and optimizer step the script counts:

- operations, two for a multiplication with its addition: the matrix products of all layers and of the head, attention
  within samples of 2048 tokens, and OSFT's per-step overhead (`upkeep`). Activations are recomputed, except with
  `--keep-activations`. Norms, softmax and the optimizer are left out, because they are no matrix products;
- memory between two steps: weights (2 bytes per number), and for what is trained the fp32 gradient, the fp32 master and
  AdamW's moments (16 bytes, and 2 for OSFT's own copy); for OSFT also the starting weights (2), the trainable basis (2
  and 4) and the frozen one (4). With `distributed.offload.bases` the starting weights and the fp32 parts of the bases
  wait in host memory, and column `bases on host` shows what remains. Activations are the same for both;
- bytes that a rank sends, as rings send them: the weights gathered twice for each micro-batch and the fp32 gradients
  scattered; for OSFT also the basis gathered once for each micro-batch, and the exchanges of projection and merging
  once per step.

The counts do not give times: the reached share of a chip's arithmetic and of a network's bandwidth must be measured.
With `--rate` and `--bandwidth`, which the user supplies, the seconds of both are shown as if neither waited for the
other.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from harness import Rows, write

VOCABULARY = 128256
SAMPLE = 2048
"""Number of tokens of a sample; each token attends to half of them on average."""
RANKS = (8, 64, 512)
RATIOS = (None, 0.1, 0.2, 0.3)
"""Unfreeze ratios; None stands for plain fine-tuning."""


@dataclass
class Model:
    hidden: int
    middle: int
    layers: int
    narrow: int = 1024
    """Number of features of keys and values."""

    @property
    def layer(self) -> list[tuple[int, int]]:
        """Shapes (out, in) of the seven weights that are protected in each layer."""
        hidden, middle = self.hidden, self.middle
        return [(hidden, hidden)] * 2 + [(self.narrow, hidden)] * 2 + [(middle, hidden)] * 2 + [(hidden, middle)]


MODELS = {"8B": Model(4096, 14336, 32), "70B": Model(8192, 28672, 80), "405B": Model(16384, 53248, 126)}


@dataclass
class Sizes:
    """Counts of numbers and of multiplications in the parts of the model, over all layers."""

    targets: int
    rest: int
    """Numbers in embeddings and head; norms are too few to count."""
    delta: int
    basis: int
    frozen: int
    merged: int
    """Numbers that merging gathers: the basis of weights that are trainable on the input side, delta of the others."""
    coefficients: int
    """Numbers in the coefficients of the projection, Q^T delta."""
    merging: int
    """Multiplications of dW = delta basis^T."""
    projection: int
    """Multiplications of delta - Q (Q^T delta)."""


def sizes(model: Model, ratio: float | None) -> Sizes:
    targets = model.layers * sum(out * into for out, into in model.layer)
    found = Sizes(targets, 2 * VOCABULARY * model.hidden, 0, 0, 0, 0, 0, 0, 0)
    for out, into in model.layer if ratio is not None else []:
        short, long = sorted((out, into))
        frozen = int(short * (1 - ratio) + 1e-9)
        free = short - frozen
        found.delta += model.layers * long * free
        found.basis += model.layers * short * free
        found.frozen += model.layers * long * frozen
        found.merged += model.layers * into * free
        found.coefficients += model.layers * frozen * free
        found.merging += model.layers * out * into * free
        found.projection += model.layers * 2 * long * frozen * free
    return found


def count(
    model: Model, ratio: float | None, ranks: int, tokens: int, micro_batches: int, again: bool
) -> dict[str, float]:
    """Returns the counts for one rank and step.

    `tokens` is the number of tokens of a micro-batch; with `again` activations are recomputed.
    """
    size = sizes(model, ratio)
    # Multiplications per token in one pass: the scores, and the weighted sum of the values.
    attention = model.layers * 2 * model.hidden * SAMPLE // 2
    passes = 2 + again  # forward, and the gradient of the input
    a_token = passes * size.targets + (passes + 1) * attention + 2 * size.rest // 2
    if ratio is None:
        a_token += size.targets + size.rest // 2  # the gradient of the weights
    else:
        a_token += size.delta + size.basis
    upkeep = (size.merging + size.projection) / ranks
    whole = size.targets + size.rest
    trained = whole if ratio is None else size.delta
    memory, on_host = 2 * whole + 16 * trained, 0
    sent = micro_batches * (2 * 2 * whole + 4 * trained)
    if ratio is not None:
        on_host = 2 * size.targets + 4 * size.basis + 4 * size.frozen
        memory += 2 * size.delta + 2 * size.basis + on_host
        sent += micro_batches * 2 * size.basis + 2 * 4 * size.coefficients + 4 * size.merged
    return {
        "operations": 2 * (micro_batches * tokens * a_token + upkeep),
        "upkeep_share": upkeep / (micro_batches * tokens * a_token + upkeep),
        "memory_bytes": memory / ranks,
        "offloaded_bytes": (memory - on_host) / ranks,
        "sent_bytes": sent * (ranks - 1) / ranks,
    }


def rows(model: Model, tokens: int, micro_batches: int, again: bool) -> Rows:
    found: Rows = []
    for ranks in RANKS:
        plain = count(model, None, ranks, tokens, micro_batches, again)
        for ratio in RATIOS:
            own = count(model, ratio, ranks, tokens, micro_batches, again)
            against = {f"{key}_against_sft": own[key] / plain[key] for key in plain if key != "upkeep_share"}
            method = "sft" if ratio is None else "osft"
            found.append({"ranks": ranks, "method": method, "unfreeze_rank_ratio": ratio, **own, **against})
    return found


def show(found: Rows, rate: float | None, bandwidth: float | None) -> None:
    """Prints the counts. `rate` is the TFLOP/s of a rank, `bandwidth` the GB/s that it sends."""
    names = ["memory GB", "bases on host", "sent GB"]
    names += ["s of products"] * (rate is not None) + ["s of sending"] * (bandwidth is not None)
    titles = (f"{title:>14}" for title in names)
    print(f"{'ranks':>5} {'method':<6} {'ratio':>5} {'PFLOP':>12} {'upkeep':>7}", *titles)
    for row in found:
        scaled = (("operations", 1e15), ("memory_bytes", 1e9), ("offloaded_bytes", 1e9), ("sent_bytes", 1e9))
        work, *amounts = (f"{row[key] / unit:.2f} ({row[f'{key}_against_sft']:.2f})" for key, unit in scaled)
        if rate is not None:
            amounts.append(f"{row['operations'] / rate / 1e12:.1f}")
        if bandwidth is not None:
            amounts.append(f"{row['sent_bytes'] / bandwidth / 1e9:.1f}")
        ratio = row["unfreeze_rank_ratio"] or "-"
        line = f"{row['ranks']:>5} {row['method']:<6} {ratio:>5} {work:>12} {row['upkeep_share']:>7.1%}"
        print(line, *(f"{amount:>14}" for amount in amounts))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="8B")
    parser.add_argument("--tokens", type=int, default=8192, help="of a micro-batch on each rank")
    parser.add_argument("--micro-batches", type=int, default=1, help="of a step on each rank")
    parser.add_argument("--keep-activations", action="store_true", help="they are not computed again")
    parser.add_argument("--rate", type=float, help="TFLOP/s that a rank reaches")
    parser.add_argument("--bandwidth", type=float, help="GB/s that a rank sends")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    found = rows(MODELS[args.model], args.tokens, args.micro_batches, not args.keep_activations)
    show(found, args.rate, args.bandwidth)
    if args.json is not None:
        write(args.json, {key: value for key, value in vars(args).items() if key != "json"}, found)


if __name__ == "__main__":
    main()
