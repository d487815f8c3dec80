"""Measures two updates of square weights: `delta` (n, r) against a core (r, r) between two trainable bases.

    python benchmarks/square_core.py [--hidden 512 1024] [--tokens 4096] [--json FILE]

An (n, n) weight has r trainable directions on both sides, so `dW = U C F^T` reaches the same updates as `dW = delta
F^T` with a delta outside the frozen directions. C instead of delta needs no projection and less optimizer state, but
one more product for each token. AdamW on C is not AdamW on delta, so the two train differently.

Only the parts that differ are timed, without ZeRO-3. `gradient` is the time of one backward pass over `--tokens`.
`upkeep` is the time once per step of the optimizer's step, the projection (delta only) and the merging. Both forms
alternate, and ratios are those of medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Rows, write

Work = Callable[[], object]


def free_rank(hidden: int, ratio: float) -> int:
    from osftx.methods.osft.subspace_rule import frozen_rank

    return hidden - frozen_rank(hidden, ratio)


def make(hidden: int, tokens: int, ratio: float) -> dict[str, dict[str, Work]]:
    """Returns the functions that are timed, by form."""
    import torch

    rank = free_rank(hidden, ratio)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    x, grad, weight = random(tokens, hidden), random(tokens, hidden), random(hidden, hidden)
    left, _, right = torch.linalg.svd(weight)
    frozen, free_left, free_right = (part.contiguous() for part in (left[:, :-rank], left[:, -rank:], right[-rank:].T))
    delta, core = (torch.nn.Parameter(torch.zeros(size, rank)) for size in (hidden, rank))
    adams = {}
    for parameter in (delta, core):
        parameter.grad = random(*parameter.shape)
        adams[parameter] = torch.optim.AdamW([parameter], lr=1e-4, fused=True)

    @torch.no_grad()
    def keep_delta() -> None:
        adams[delta].step()
        delta.sub_(frozen @ (frozen.T @ delta))
        torch.addmm(weight, delta, free_right.T)

    @torch.no_grad()
    def keep_core() -> None:
        adams[core].step()
        torch.addmm(weight, free_left @ core, free_right.T)

    return {
        "delta": {"gradient": lambda: grad.T @ (x @ free_right), "upkeep": keep_delta},
        "core": {"gradient": lambda: (grad @ free_left).T @ (x @ free_right), "upkeep": keep_core},
    }


def measure(hidden: int, tokens: int, ratio: float, rounds: int) -> dict[str, Any]:
    forms = make(hidden, tokens, ratio)
    times: dict[tuple[str, str], list[float]] = {(form, what): [] for form in forms for what in forms[form]}
    for _ in range(rounds + 1):
        for (form, what), taken in times.items():
            begun = time.perf_counter()
            forms[form][what]()
            taken.append(time.perf_counter() - begun)
    medians = {key: statistics.median(values[1:]) for key, values in times.items()}  # the first round warms up
    rank = free_rank(hidden, ratio)
    held = {"delta": 18 * hidden * rank + 4 * hidden * (hidden - rank), "core": 18 * rank * rank + 4 * hidden * rank}
    return {
        "hidden": hidden,
        "unfreeze_rank_ratio": ratio,
        "gradient": medians["core", "gradient"] / medians["delta", "gradient"],
        "upkeep": medians["core", "upkeep"] / medians["delta", "upkeep"],
        "upkeep_share_of_delta": medians["delta", "upkeep"] / sum(medians["delta", what] for what in forms["delta"]),
        "bytes": held["core"] / held["delta"],
        "seconds": {f"{form}_{what}": values[1:] for (form, what), values in times.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[512, 1024], help="sizes of the square weights")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.2, 0.3], help="unfreeze ratios")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    rows: Rows = [measure(hidden, args.tokens, ratio, args.rounds) for hidden in args.hidden for ratio in args.ratios]
    print(f"core / delta\n{'hidden':>6} {'ratio':>6} {'gradient':>9} {'upkeep':>7} {'bytes':>6}")
    for row in rows:
        print(
            f"{row['hidden']:>6} {row['unfreeze_rank_ratio']:>6} {row['gradient']:>9.2f} {row['upkeep']:>7.2f} "
            f"{row['bytes']:>6.2f}"
        )
    if args.json is not None:
        write(args.json, {key: value for key, value in vars(args).items() if key != "json"}, rows)


if __name__ == "__main__":
    main()
