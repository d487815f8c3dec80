"""Measures the time that finding the subspaces of a model takes, and the error of the subspaces.

    python benchmarks/decomposition.py [--hidden 1024] [--device cuda] [--without-svd] [--json FILE]

The matrices are those of one decoder layer of a Llama with this hidden size (4096 is that of Llama-3.1-8B). Each is
decomposed in osftx's way (fp64 Gram matrix, its eigenvectors, a QR), the same with cached eigenvectors, and by full
SVDs. `error` is the largest sine of an angle between the frozen directions and those of an fp64 SVD, on the worse side.
Weights are random, with singular values that fall from 1 to 1e-4, as those of trained models do over several decades.

`by inputs` is the time that activation-based subspaces (osft.subspace=activations) need once for each distinct input:
the eigenvectors in fp64 of an input covariance with energies like the squares of those values. `root` is the time of
the Cholesky factor with which a phase passes the covariance on.
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
FIRST_READERS = ("q_proj", "o_proj", "gate_proj", "down_proj")
"""One weight for each distinct input of the layer."""


COLUMNS = {
    "osftx": "osftx_s",
    "cached": "from_cache_s",
    "svd fp64": "svd_fp64_s",
    "svd fp32": "svd_fp32_s",
    "by inputs": "by_inputs_s",
    "root": "root_s",
}


def shapes(hidden: int) -> dict[str, tuple[int, int]]:
    """Returns the shapes (out, in) of the seven weights of a layer."""
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
    """Returns an fp32 weight of random directions, with singular values from 1 to SMALLEST in equal ratios."""
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
    """Returns the largest sine of the angles between two subspaces, each given by orthonormal columns."""
    import torch

    apart = found.double() - exact @ (exact.T @ found.double())
    return float(torch.linalg.matrix_norm(apart, 2))


def against_svd(weight: Any, bases: Any, device: str) -> dict[str, Any]:
    """Returns the seconds of full SVDs of the weight, and the errors against the fp64 SVD.

    The errors are those of the bases and, for a tall weight, of the fp32 SVD.
    """
    import torch

    svd64, (u, _, vh) = seconds(lambda: torch.linalg.svd(weight.double(), full_matrices=False), device)
    svd32, (u32, _, _) = seconds(lambda: torch.linalg.svd(weight, full_matrices=False), device)
    tall, frozen = weight.shape[0] >= weight.shape[1], bases.frozen.shape[1]
    long, short = (u, vh.T) if tall else (vh.T, u)
    return {
        "svd_fp64_s": svd64,
        "svd_fp32_s": svd32,
        "error": max(largest_sine(bases.frozen, long[:, :frozen]), largest_sine(bases.free, short[:, frozen:])),
        "svd_fp32_error": largest_sine(u32[:, :frozen], long[:, :frozen]) if tall else None,
    }


def measure(hidden: int, device: str, with_svd: bool) -> Rows:
    """Returns one row for each weight.

    Without full SVDs, which take minutes at the sizes of an 8B model, the errors are not known.
    """
    from osftx.methods.covariance.cholesky import CholeskyFactor
    from osftx.methods.osft.decomposition import short_side_vectors, split_by_inputs, split_by_weight
    from osftx.methods.osft.eigenvector_cache import EigenvectorCache

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        cache = EigenvectorCache(Path(folder))
        seconds(lambda: split_by_weight(make_weight((256, 128), device, 99), 64), device)  # loads the libraries
        for place, (name, shape) in enumerate(shapes(hidden).items()):
            weight = make_weight(shape, device, place)
            free = int(min(shape) * RATIO)

            def split(weight: Any = weight, free: int = free) -> Any:
                vectors = cache.of("gram", weight, partial(short_side_vectors, weight))
                return split_by_weight(weight, free, vectors)

            first, bases = seconds(split, device)
            again, _ = seconds(split, device)
            by_inputs, root = None, None
            if name in FIRST_READERS:
                square = make_weight((shape[1], shape[1]), device, place).double()
                moment = square @ square.T
                by_inputs, _ = seconds(partial(split_by_inputs, moment, int(shape[1] * RATIO)), device)
                root, _ = seconds(partial(CholeskyFactor.of, moment), device)
            row = {
                "weight": name,
                "shape": list(shape),
                "osftx_s": first,
                "from_cache_s": again,
                "by_inputs_s": by_inputs,
                "root_s": root,
            }
            rows.append(row | (against_svd(weight, bases, device) if with_svd else {}))
    return rows


def show(rows: Rows) -> None:
    print(f"{'weight':<10} {'shape':>14}" + "".join(f"{title:>10}" for title in COLUMNS) + f"{'error':>9}")
    for row in rows:
        took = "".join(f"{row[key]:>8.2f} s" if row.get(key) is not None else f"{'-':>10}" for key in COLUMNS.values())
        error = f"{row['error']:>8.1e}" if "error" in row else f"{'-':>8}"
        print(f"{row['weight']:<10} {'x'.join(map(str, row['shape'])):>14}{took} {error}")
    total = {key: sum(row.get(key) or 0.0 for row in rows) for key in COLUMNS.values()}
    print(
        f"a layer: {total['osftx_s']:.2f} s, from the cache {total['from_cache_s']:.2f} s, by inputs "
        f"{total['by_inputs_s']:.2f} s"
    )
    if exact := total["svd_fp64_s"]:
        print(f"against an fp64 SVD {total['osftx_s'] / exact:.2f}, by inputs {total['by_inputs_s'] / exact:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--without-svd", action="store_true", help="no comparison with full SVDs")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    rows = measure(args.hidden, args.device, not args.without_svd)
    show(rows)
    if args.json is not None:
        write(args.json, {"hidden": args.hidden, "device": args.device, "ratio": RATIO}, rows)


if __name__ == "__main__":
    main()
