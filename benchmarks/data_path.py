"""Measures the path from a file to packed steps: rows tokenised per second, time of packing, and peak memory.

    python benchmarks/data_path.py [--rows 20000] [--lengths 1000000] [--processes N] [--json FILE]

Writes conversations of about a kilobyte, and tokenises them with the tokenizer of the small model that comes with the
repository, in one process and in several. Packing covers the lengths of a large data set, for two epochs in steps of
128 samples on 8 ranks.

The peak memory is that of a process that prepares the file, and of another one for a file ten times as long, for which
it must not grow. If several processes tokenise, it is that of the largest. Times depend on other load on the machine;
memory does not.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import Rows, write

from osftx.config.schema import DataConfig
from osftx.data.chat.tokenizer import ChatTokenizer
from osftx.data.packing import pack, plan_steps, sample_order
from osftx.data.prepare import prepare

TOKENIZER = Path(__file__).resolve().parents[1] / "experiments" / "tiny" / "base"
MAX_SEQ_LEN = 8192
WORDS = 120
"""Number of words of each turn."""
BATCH, RANKS, MAX_TOKENS = 128, 8, 10_000


def write_conversations(path: Path, rows: int) -> None:
    """Writes random conversations from a fixed seed, in which no two are alike."""
    random = np.random.default_rng(0)
    with path.open("w") as file:
        for _ in range(rows):
            question, answer = (" ".join(map(str, random.integers(1000, size=WORDS))) for _ in range(2))
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")


def tokenise(path: Path, folder: Path, processes: int) -> float:
    """Returns the seconds of tokenising the file."""
    tokenizer = ChatTokenizer.load(str(TOKENIZER))
    begun = time.perf_counter()
    prepare(DataConfig(path=str(path)), tokenizer, MAX_SEQ_LEN, folder, processes)
    return time.perf_counter() - begun


def peak_mib(path: Path, folder: Path, processes: int) -> float:
    """Returns the peak memory in MiB of a process that tokenises the file, or of its largest child process."""
    command = [sys.executable, __file__, "--prepare", str(path), str(folder), "--processes", str(processes)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def prepare_alone(path: Path, folder: Path, processes: int) -> float:
    tokenise(path, folder, processes)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(peaks) / 1024


def packing(lengths: int) -> float:
    """Returns the seconds that packing all steps of two epochs takes."""
    random = np.random.default_rng(0)
    sizes = random.lognormal(6, 1, lengths).astype(np.int64).clip(2, MAX_SEQ_LEN)
    begun = time.perf_counter()
    for chosen in plan_steps(sample_order(lengths, 2, seed=42), BATCH):
        pack(sizes[chosen], RANKS, MAX_TOKENS)
    return time.perf_counter() - begun


def measure(args: argparse.Namespace) -> Rows:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short, long = folder / "short.jsonl", folder / "long.jsonl"
        write_conversations(short, args.rows)
        long.write_bytes(short.read_bytes() * 10)
        for processes in sorted({1, args.processes}):
            seconds = tokenise(short, folder / f"speed_{processes}", processes)
            rows.append({"what": f"tokenise, {processes} processes", "rows_per_s": args.rows / seconds})
        for processes in sorted({1, args.processes}):
            for path in (short, long):
                peak = peak_mib(path, folder / f"memory_{path.stem}_{processes}", processes)
                megabytes = path.stat().st_size / 1e6
                what = f"prepare {megabytes:.0f} MB, {processes} processes"
                rows.append({"what": what, "peak_mib": peak})
    seconds = packing(args.lengths)
    rows.append({"what": f"pack {args.lengths:,} lengths, 2 epochs", "seconds": seconds})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--lengths", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--prepare", type=Path, nargs=2, help=argparse.SUPPRESS)  # the command of `peak_mib`
    args = parser.parse_args()
    if args.prepare is not None:
        print(prepare_alone(*args.prepare, args.processes))
        return
    rows = measure(args)
    for row in rows:
        (figure, value), *_ = [(key, value) for key, value in row.items() if key != "what"]
        print(f"{row['what']:<45} {value:>12,.1f} {figure}")
    if args.json is not None:
        write(args.json, {"rows": args.rows, "lengths": args.lengths, "processes": args.processes}, rows)


if __name__ == "__main__":
    main()
