"""Whether two versions of osftx give the same bits: digests of what some small runs leave.

    python tests/support/same_bits.py CHECKOUT > before.json
    python tests/support/same_bits.py CHECKOUT --against before.json

A refactoring must not change a weight or a result. Each case is a real run of two phases or more, from
the root of CHECKOUT, on two CPU ranks (one has one rank), into a temporary folder with a store of its own. The digests
hold on the machine that made them, since the last bits of a matrix product depend on the processor: make both sides on
one machine. A case takes about half a minute; `--only NAME` runs one of them.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SHORT = ["phases.knowledge.num_epochs=10", "phases.skills.num_epochs=1"]
CASES = {
    "weights": ["+experiment=tiny_two_phase", *SHORT, "evaluation.every_steps=5"],
    "activations": ["+experiment=tiny_two_phase", *SHORT, "osft.subspace=activations"],
    "sft_with_replay": ["+experiment=tiny_lab_two_phase", *SHORT, "phases.skills.replay.ratio=0.1"],
    "three_phases": ["+experiment=tiny_three_phase", *SHORT, "phases.recap.num_epochs=5"],
    "layer_importance": ["+experiment=tiny_two_phase", *SHORT, "osft.rank_allocation=layer_importance"],
    "best_handed_on": [
        "+experiment=tiny_two_phase",
        *SHORT,
        "phases.knowledge.validation.split=0.1",
        "phases.knowledge.validation.every_steps=7",
        "phases.knowledge.validation.best=hand_on",
    ],
    "others_trained_bf16": [
        "+experiment=tiny_two_phase",
        *SHORT,
        "osft.train_others=true",
        "training.train_dtype=bfloat16",
        "training.save_dtype=bfloat16",
    ],
    "one_rank": ["+experiment=tiny_two_phase", *SHORT, "distributed.nproc_per_node=1"],
}
TIMES = ("duration_s", "time_per_batch", "tokens_per_second", "samples_per_second", "peak_memory_usage_GB", "timestamp")
"""Keys of JSON files whose values differ from run to run."""
FINGERPRINTS = ("fingerprint", "start")
"""Keys that change once when a fingerprint covers more than before, though the weights are the same."""
NOT_COMPARED = (*TIMES, *FINGERPRINTS, "command", "versions")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--against", type=Path, help="digests to compare with")
    parser.add_argument("--only", choices=CASES, action="append", help="these cases alone")
    chosen = parser.parse_args()
    found = {name: _case(chosen.checkout.resolve(), CASES[name]) for name in chosen.only or CASES}
    print(json.dumps(found, indent=1))
    if chosen.against is None:
        return 0
    before = json.loads(chosen.against.read_text())
    differing = [
        f"{case}: {name}"
        for case, files in found.items()
        for name in sorted(files.keys() | before[case].keys())
        if files.get(name) != before[case].get(name)
    ]
    print(*(differing or ["the same bits"]), sep="\n", file=sys.stderr)
    return 1 if differing else 0


def _case(checkout: Path, words: list[str]) -> dict[str, str]:
    with TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        command = [sys.executable, "-m", "osftx", *words, f"output_dir={run}", f"store_dir={scratch}/store"]
        subprocess.run(command, cwd=checkout, check=True, stdout=sys.stderr)
        digests = {}
        for path in sorted(Path(found, name) for found, _, names in os.walk(run, followlinks=True) for name in names):
            name = str(path.relative_to(run))
            if path.suffix == ".safetensors":
                digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            elif path.name in ("results.json", "result.json", "plan.json"):
                digests[name] = _digest(_without_times(json.loads(path.read_text()), scratch))
            elif path.name == "metrics.jsonl":
                lines = [json.loads(line) for line in path.read_text().splitlines()]
                digests[name] = _digest(_without_times(lines, scratch))
        assert any(name.endswith(".safetensors") for name in digests), "no weights were found"
        return digests


def _without_times(content: Any, scratch: str) -> Any:
    if isinstance(content, dict):
        return {key: _without_times(value, scratch) for key, value in content.items() if key not in NOT_COMPARED}
    if isinstance(content, list):
        return [_without_times(value, scratch) for value in content]
    return content.replace(scratch, "") if isinstance(content, str) else content


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
