"""Compares stored forms of an input covariance: their size and what the smaller ones cost.

    python benchmarks/kept_inputs.py [--width 512] [--base experiments/tiny/base --data FILE] [--json FILE]

Each form of the input covariance C = E[x x^T] (n, n) chooses the trainable directions F. The exact covariance gives the
subspace overlap `share` = sqrt(tr(F^T C F) / tr(C)), the share of the inputs' length that lies in F: how far an update
as strong as the weight moves the outputs. `bytes` are in units of n^2.

`root fp16` is osftx's form, the Cholesky factor. `energy` keeps the largest eigenvectors that hold 1 - 1e-6 of the
energy, in fp16. `sketch` keeps a quarter of the directions, by frequent directions of blocks of 64 tokens. The inputs
are random, with energies that fall by a power of their number in random directions, one of which may be an outlier as
in language models, or they are what a model reads on data.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import Rows, write

RATIOS = (0.1, 0.3)
TOKENS_PER_DIRECTION = 6
MOST_READ = 200
"""Largest number of conversations that are read; for the tiny base these are about six tokens per direction as well."""


def random_inputs(width: int, power: float, outlier: bool, used: float = 1.0) -> Any:
    """Returns fp64 inputs (tokens, n) in which the energy of direction i is i^-power.

    With `outlier` one feature has 100 times the energy of all others. Only the share `used` of the directions has
    energy.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    energies = torch.arange(1, width + 1, dtype=torch.float64) ** -power
    energies[int(used * width) :] = 0
    directions = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=generator))[0]
    tokens = TOKENS_PER_DIRECTION * width
    x = torch.randn(tokens, width, dtype=torch.float64, generator=generator) * energies.sqrt() @ directions.T
    if outlier:
        x[:, 7] = (100 * energies.sum()).sqrt()
    return x


def read_inputs(base: Path, data: Path) -> Iterator[tuple[str, Any]]:
    """Yields (name, fp64 inputs (tokens, n)) of the q and down projections in the second layer of the model `base`.

    The model reads the conversations in `data`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    seen: dict[str, list[Any]] = {}
    for name, module in model.named_modules():
        if name.endswith(("1.self_attn.q_proj", "1.mlp.down_proj")):
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0][0].double())
            )
    with torch.no_grad():
        for line in data.read_text().splitlines()[:MOST_READ]:
            ids = tokenizer.apply_chat_template(json.loads(line)["messages"], return_tensors="pt", return_dict=True)
            model(ids["input_ids"])
    for name, parts in seen.items():
        yield name.removeprefix("model.layers."), torch.cat(parts)


def forms() -> dict[str, Callable[[Any, Any], tuple[Any, float]]]:
    """Returns each form by name: a function (inputs, moment) -> (moment in that form, bytes in units of n^2)."""
    import torch

    from osftx.methods.covariance.cholesky import CholeskyFactor
    from osftx.methods.covariance.index import moment_bytes

    def root(_: Any, moment: Any) -> tuple[Any, float]:
        return CholeskyFactor.of(moment).moment(moment.device), moment_bytes(len(moment)) / moment.numel()

    def energy(_: Any, moment: Any) -> tuple[Any, float]:
        values, vectors = torch.linalg.eigh(moment)
        lost = (values.clamp(min=0).cumsum(0) <= 1e-6 * moment.trace()).sum()
        kept = vectors[:, lost:].half().double()
        return kept * values[lost:] @ kept.T, 2 * kept.numel() / moment.numel()

    def sketch(x: Any, moment: Any) -> tuple[Any, float]:
        size = len(moment) // 4
        rows = x.new_zeros(0, len(moment))
        for block in x.split(64):
            _, lengths, directions = torch.linalg.svd(torch.cat([rows, block]), full_matrices=False)
            cut = lengths[size] ** 2 if len(lengths) > size else 0.0
            rows = (lengths[:size] ** 2 - cut).clamp(min=0).sqrt()[:, None] * directions[:size]
        return rows.T @ rows / len(x), 0.5

    return {
        "fp32": lambda _, moment: (moment.float().double(), 2.0),
        "bf16": lambda _, moment: (moment.bfloat16().double(), 1.0),
        "root fp16": root,
        "energy": energy,
        "sketch": sketch,
    }


def share(moment: Any, free: Any) -> float:
    """Returns the subspace overlap `share`, as defined in the module docstring."""
    return float(((free.T @ moment @ free).trace().clamp(min=0) / moment.trace()).sqrt())


def compare(name: str, x: Any) -> Iterator[dict[str, Any]]:
    """Yields one row per form and ratio."""
    from osftx.methods.osft.decomposition import input_vectors

    moment = x.T @ x / len(x)
    exact = input_vectors(moment)
    for form, make in forms().items():
        found, size = make(x, moment)
        vectors = input_vectors(found)
        for ratio in RATIOS:
            free = int(len(moment) * ratio)
            yield {
                "inputs": name,
                "form": form,
                "bytes": size,
                "ratio": ratio,
                "share": share(moment, vectors[:, :free].double()),
                "share_exact": share(moment, exact[:, :free].double()),
            }


def measure(width: int, base: Path | None, data: Path | None) -> Rows:
    inputs = [(f"power {power:g}", random_inputs(width, power, False)) for power in (0.5, 1.0, 2.0)]
    inputs += [("power 1, outlier", random_inputs(width, 1.0, True)), ("half", random_inputs(width, 1.0, False, 0.5))]
    if base is not None and data is not None:
        inputs += read_inputs(base, data)
    return [row for name, x in inputs for row in compare(name, x)]


def show(rows: Rows) -> None:
    print(f"{'inputs':<22} {'form':<10} {'bytes':>6} {'ratio':>6} {'share':>9} {'of exact':>9}")
    for row in rows:
        print(
            f"{row['inputs']:<22} {row['form']:<10} {row['bytes']:>6.2f} {row['ratio']:>6} {row['share']:>9.2e} "
            f"{row['share_exact']:>9.2e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--base", type=Path, help="folder of a model")
    parser.add_argument("--data", type=Path, help="JSONL of conversations that it reads")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    rows = measure(args.width, args.base, args.data)
    show(rows)
    if args.json is not None:
        write(args.json, {"width": args.width}, rows)


if __name__ == "__main__":
    main()
