"""Counts the bytes that a rank sends in a step, from the collectives: OSFT against plain fine-tuning.

    python benchmarks/communication.py [--ranks 2] [--hidden 1024] [--dtype bfloat16] [--json FILE]

Every collective of one optimizer step is counted as a ring would send it. Each of n ranks sends (n - 1) / n of the
output of an all-gather or the input of a reduce-scatter, and twice that for an all-reduce. Counts, unlike times, do not
depend on the network or on other load on the machine.
"""

import functools
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Bench, Rows, arguments, on_ranks


class Traffic:
    """Counts the bytes that this rank sends, by kind of collective. It must be made before DeepSpeed binds them."""

    def __init__(self) -> None:
        import torch.distributed as dist
        from torch.distributed import distributed_c10d

        self.sent: Counter[str] = Counter()
        self.counts = False
        kinds: dict[str, Callable[[dict[str, Any], int], float]] = {
            "all_gather_into_tensor": lambda given, n: size(given["output_tensor"]) * (n - 1) / n,
            "all_gather": lambda given, n: size(given["tensor"]) * (n - 1),
            "reduce_scatter_tensor": lambda given, n: size(given["input"]) * (n - 1) / n,
            "all_reduce": lambda given, n: 2 * size(given["tensor"]) * (n - 1) / n,
            "all_to_all_single": to_others,
            "broadcast": lambda given, n: size(given["tensor"]) * (n - 1) / n,
            "reduce": lambda given, n: size(given["tensor"]) * (n - 1) / n,
        }
        for name, bytes_sent in kinds.items():
            counted = self._counted(name, getattr(dist, name), bytes_sent)
            for module in (dist, distributed_c10d):
                setattr(module, name, counted)

    def _counted(
        self, name: str, collective: Callable[..., Any], bytes_sent: Callable[[dict[str, Any], int], float]
    ) -> Callable[..., Any]:
        import inspect

        import torch.distributed as dist

        signature = inspect.signature(collective)

        @functools.wraps(collective)
        def call(*arguments: Any, **keywords: Any) -> Any:
            if self.counts:
                given = signature.bind(*arguments, **keywords).arguments
                self.sent[name] += round(bytes_sent(given, dist.get_world_size(given.get("group"))))
            return collective(*arguments, **keywords)

        return call


def to_others(given: dict[str, Any], ranks: int) -> float:
    """Returns the bytes that a rank sends in an exchange, without its own part, which stays where it is."""
    import torch.distributed as dist

    sent, splits = given["input"], given.get("input_split_sizes")
    own = splits[dist.get_rank()] / max(sum(splits), 1) if splits else 1 / ranks
    return size(sent) * (1 - own)


def size(tensor: Any) -> int:
    return tensor.numel() * tensor.element_size()


def gather_each_time() -> None:
    """Makes ZeRO-3 gather weights again for the backward pass.

    By default it keeps what it gathered if there is room, which there is not in a model of realistic size.
    """
    from osftx.distributed import engine

    usual = engine.zero_config

    def config(training: Any, distributed: Any) -> dict[str, Any]:
        settings = usual(training, distributed)
        settings["zero_optimization"] |= {"stage3_max_reuse_distance": 0, "stage3_max_live_parameters": 0}
        return settings

    engine.zero_config = config


def measure(args: Namespace, folder: Path) -> Rows:
    """Returns the rows of the table, on every rank; those of rank 0 are shown. Collective."""
    import torch.distributed as dist

    traffic = Traffic()
    gather_each_time()
    bench = Bench.prepare(args, folder)
    rows: Rows = []
    for ratio in [None, *args.ratios]:
        step, _ = bench.step(ratio)
        for turn in range(4):
            traffic.sent.clear()
            traffic.counts = turn == 3  # by then ZeRO-3 has recorded what it gathers ahead
            step()
        traffic.counts = False
        rows.append(
            {
                "method": "sft" if ratio is None else "osft",
                "unfreeze_rank_ratio": 1.0 if ratio is None else ratio,
                "bytes": sum(traffic.sent.values()),
                "by_collective": dict(traffic.sent),
            }
        )
    for row in rows:
        row["against_sft"] = row["bytes"] / rows[0]["bytes"]
    dist.destroy_process_group()
    return rows


def show(rows: Rows) -> None:
    print(f"{'method':<8} {'ratio':>5} {'sent by a rank':>15} {'against sft':>12}  by collective")
    for row in rows:
        kinds = ", ".join(f"{name} {sent / 2**20:.1f}" for name, sent in row["by_collective"].items())
        sent = f"{row['bytes'] / 2**20:.1f} MiB"
        print(f"{row['method']:<8} {row['unfreeze_rank_ratio']:>5} {sent:>15} {row['against_sft']:>12.2f}  {kinds}")


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(ranks=2)
    args = parser.parse_args()
    if args.ranks < 2:
        parser.error("--ranks: one rank sends nothing")
    on_ranks(args, measure, show)


if __name__ == "__main__":
    main()
