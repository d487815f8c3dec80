"""What finding the subspaces of a model costs, and how exact they are.

    python benchmarks/decomposition.py [--hidden 1024] [--device cuda] [--json FILE]

One decoder layer of a Llama with this hidden size (4096: that of Llama-3.1-8B), matrix by matrix: osftx's way (fp64
Gram matrix, its eigenvectors, a QR), the same from its cache, and full SVDs. `error` is the largest sine of an angle
between the frozen directions and those of an fp64 SVD, on the worse side. Weights are random with singular values that
fall from 1 to 1e-4, as those of trained models do over several decades.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness import Rows, write

RATIO = 0.3
SMALLEST = 1e-4
"""Smallest singular value; the largest is 1."""


def shapes(hidden: int) -> dict[str, tuple[int, int]]:
    """Of the seven weights of a layer (out, in)."""
    narrow, wide = hidden // 4, hidden * 7 // 2
    return {
        "q_proj": (hidden, hidden),
        "k_proj": (narrow, hidden),
        "v_proj": (narrow, hidden),
        "o_proj": (hidden, hidden),
        "gate_proj": (wide, hidden),
        "up_proj": (wide, hidden),
        "down_proj": (hidden, wide),
    }


def make_weight(shape: tuple[int, int], device: str, seed: int) -> Any:
    """Random directions, singular values from 1 to SMALLEST in equal ratios; fp32."""
    import torch

    short, long = sorted(shape)
    generator = torch.Generator(device).manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(long, short, generator=generator, device=device, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(short, short, generator=generator, device=device, dtype=torch.float64))
    weight = (
        left * torch.logspace(0, torch.tensor(SMALLEST).log10(), short, device=device, dtype=torch.float64)
    ) @ right
    return (weight if shape[0] >= shape[1] else weight.T).float().contiguous()


def seconds(compute: Callable[[], Any], device: str) -> tuple[float, Any]:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    result = compute()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun, result


def largest_sine(found: Any, exact: Any) -> float:
    """Of the angles between two subspaces, given by orthonormal columns."""
    import torch

    apart = found.double() - exact @ (exact.T @ found.double())
    return float(torch.linalg.matrix_norm(apart, 2))


def measure(hidden: int, device: str) -> Rows:
    import torch

    from osftx.osft.decomposition import short_side_vectors, split_by_weight
    from osftx.osft.eigenvectors import Eigenvectors

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = Eigenvectors(Path(folder))
        seconds(lambda: split_by_weight(make_weight((256, 128), device, 99), 64), device)  # libraries start
        for place, (name, shape) in enumerate(shapes(hidden).items()):
            weight = make_weight(shape, device, place)
            free = int(min(shape) * RATIO)

            def split(weight: Any = weight, free: int = free) -> Any:
                vectors = cache.of("gram", weight, partial(short_side_vectors, weight))
                return split_by_weight(weight, free, vectors)

            first, bases = seconds(split, device)
            again, _ = seconds(split, device)
            svd64, (u, _, vh) = seconds(lambda w=weight: torch.linalg.svd(w.double(), full_matrices=False), device)
            svd32, (u32, _, _) = seconds(lambda w=weight: torch.linalg.svd(w, full_matrices=False), device)
            frozen = min(shape) - free
            long, short = (u, vh.T) if shape[0] >= shape[1] else (vh.T, u)
            long32 = u32 if shape[0] >= shape[1] else None
            rows.append(
                {
                    "weight": name,
                    "shape": list(shape),
                    "osftx_s": first,
                    "from_cache_s": again,
                    "svd_fp64_s": svd64,
                    "svd_fp32_s": svd32,
                    "error": max(
                        largest_sine(bases.frozen, long[:, :frozen]), largest_sine(bases.free, short[:, frozen:])
                    ),
                    "svd_fp32_error": largest_sine(long32[:, :frozen], long[:, :frozen])
                    if long32 is not None
                    else None,
                }
            )
    return rows


def show(rows: Rows) -> None:
    print(f"{'weight':<10} {'shape':>14} {'osftx':>9} {'cached':>9} {'svd fp64':>9} {'svd fp32':>9} {'error':>8}")
    for row in rows:
        took = " ".join(f"{row[key]:>7.2f} s" for key in ("osftx_s", "from_cache_s", "svd_fp64_s", "svd_fp32_s"))
        print(f"{row['weight']:<10} {'x'.join(map(str, row['shape'])):>14} {took} {row['error']:>8.1e}")
    total, cached, svd = (sum(row[key] for row in rows) for key in ("osftx_s", "from_cache_s", "svd_fp64_s"))
    print(f"a layer: {total:.2f} s, from the cache {cached:.2f} s; against an fp64 SVD {total / svd:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    rows = measure(args.hidden, args.device)
    show(rows)
    if args.json is not None:
        write(args.json, {"hidden": args.hidden, "device": args.device, "ratio": RATIO}, rows)


if __name__ == "__main__":
    main()
