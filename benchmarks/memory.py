"""Counts the bytes that a rank holds between steps and at the peak of a step: OSFT against plain fine-tuning.

    python benchmarks/memory.py [--ranks 2] [--hidden 1024] [--json FILE]

`state` is what exists between two steps: the shard of the model, fp32 gradients and master copy, AdamW's moments, and
for OSFT the bases and a copy of the starting weights. `aside` is the part of it that waits in host memory with
`distributed.offload.bases=true`. `bucket` is the buffer in which ZeRO-3 gathers gradients. It is as large as all of
them in a model of this size and about 200 MB in a large one, so it is not part of any ratio. `peak` is the maximum of
one step, including activations and gathered weights.

Tensors are counted; for the rise of a step on a GPU, torch's allocator is asked. Counts, unlike times, do not depend on
other load on the machine. Beside the measured values the script shows those that the plan of a run would give before it
(`osftx.planning.estimate`).
"""

import gc
from argparse import Namespace
from pathlib import Path
from typing import Any

from harness import Bench, Rows, arguments, on_ranks

MEMORY_EVENT = "[memory]"
"""Name of an allocation or a release in torch's profiler."""


def storages() -> dict[int, int]:
    """Returns the bytes of each storage that a tensor of this process uses, by its address."""
    import torch

    found = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type != "meta":
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return found


def rise(step: Any, device: Any) -> int:
    """Returns the bytes by which one step exceeds what is held before it."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == MEMORY_EVENT]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


def aside(hook: Any) -> int:
    """Returns the bytes that the merging reads once per step.

    They are the starting weights and, together with the projection, the fp32 bases.
    """
    from osftx.methods.osft.weight_update import Merging

    if not isinstance(hook, Merging):
        return 0
    spaces = [space for blocks in hook.blocks.values() for space in blocks]
    kept = [*hook.before.values(), *(side.kept for space in spaces for side in (space.free, space.frozen))]
    return sum(tensor.nbytes for tensor in kept)


def watch_buckets() -> list[int]:
    """Returns a list that receives the bytes of the gradient bucket of each engine made from now on.

    The bucket is fp32, whatever is trained.
    """
    from osftx.distributed import engine

    found: list[int] = []
    usual = engine.gradient_bucket

    def bucket(trained: Any) -> int:
        found.append(4 * usual(trained))
        return found[-1] // 4

    engine.gradient_bucket = bucket
    return found


def estimate(bench: Bench, ratio: float | None) -> Any:
    """Returns the memory estimated for a phase with this ratio (None: plain fine-tuning) before it is started."""
    import torch.distributed as dist

    from osftx.config.schema import OffloadConfig, OsftConfig
    from osftx.methods.registry import method_named
    from osftx.methods.sizes import Workload, untied
    from osftx.models.files import read_folder
    from osftx.models.targets import find_targets
    from osftx.planning.estimate.memory import of_phase

    files = read_folder(bench.model)
    work = Workload(
        shapes=untied(files),
        targets=[] if ratio is None else find_targets(files.config, files.shapes, None),
        method=method_named("sft" if ratio is None else "osft"),
        ratio=ratio,
        training=bench.training,
        osft=OsftConfig(),
        offload=OffloadConfig(),
        ranks=dist.get_world_size(),
    )
    return of_phase(work)


def measure(args: Namespace, folder: Path) -> Rows:
    """Returns the rows of the table, on every rank; those of rank 0 are shown. Collective."""
    import torch.distributed as dist

    bench = Bench.prepare(args, folder)
    buckets = watch_buckets()
    rows: Rows = []
    for ratio in [None, *args.ratios]:
        gc.collect()
        before = storages()
        step, hooks = bench.step(ratio)
        for _ in range(3):  # ZeRO-3 records what it gathers ahead, and from then on keeps small weights whole
            step()
        gc.collect()
        bucket, expected = buckets[-1], estimate(bench, ratio)
        state = sum(size for place, size in storages().items() if place not in before) - bucket
        rows.append(
            {
                "method": "sft" if ratio is None else "osft",
                "unfreeze_rank_ratio": 1.0 if ratio is None else ratio,
                "bucket_bytes": bucket,
                "state_bytes": state,
                "without_aside_bytes": state - sum(aside(hook) for hook in hooks),
                "peak_bytes": state + rise(step, bench.device),
                "estimated_bucket_bytes": expected.device.bucket,
                "estimated_state_bytes": expected.between_steps - expected.device.bucket,
                "estimated_peak_bytes": expected.peak - expected.device.bucket,
            }
        )
    for row in rows:
        for kind in ("state", "without_aside", "peak"):
            row[f"{kind}_against_sft"] = row[f"{kind}_bytes"] / rows[0][f"{kind}_bytes"]
    dist.destroy_process_group()
    return rows


def show(rows: Rows) -> None:
    kinds = {"state": "state", "without_aside": "bases on host", "peak": "peak"}
    print(f"{'method':<8} {'ratio':>5}", *(f"{title:>14} {'against sft':>12}" for title in kinds.values()))
    for row in rows:
        figures = (f"{row[f'{kind}_bytes'] / 2**20:>10.1f} MiB {row[f'{kind}_against_sft']:>12.2f}" for kind in kinds)
        print(f"{row['method']:<8} {row['unfreeze_rank_ratio']:>5}", *figures)
    print(
        f"\n{'estimated':<8} {'ratio':>4}",
        *(f"{title:>14} {'measured':>14} {'off by':>8}" for title in ("state", "peak")),
    )
    for row in rows:
        pairs = ((row[f"estimated_{kind}_bytes"], row[f"{kind}_bytes"]) for kind in ("state", "peak"))
        figures = (
            f"{told / 2**20:>10.1f} MiB {found / 2**20:>10.1f} MiB {told / found - 1:>+8.2%}" for told, found in pairs
        )
        print(f"{row['method']:<8} {row['unfreeze_rank_ratio']:>5}", *figures)


if __name__ == "__main__":
    on_ranks(arguments(__doc__).parse_args(), measure, show)
