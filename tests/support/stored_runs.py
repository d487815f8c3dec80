"""Runs of a short tiny experiment that share a store."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from checkout import ROOT

SHORT = (
    "osft.subspace=activations",
    "distributed.nproc_per_node=1",  # what two ranks do is tested elsewhere
    "phases.knowledge.num_epochs=1",
    "phases.skills.num_epochs=1",
    "phases.skills.data.path=experiments/tiny/data/knowledge_train.jsonl",  # shorter than its own
    "phases.skills.effective_batch_size=40",
)


class Runs:
    """Runs of a short tiny experiment that share a store."""

    def __init__(self, folder: Path):
        self.folder, self.store = folder, folder / "store"

    def command(self, name: str, *overrides: str) -> list[str]:
        fixed = [*SHORT, f"store_dir={self.store}", f"output_dir={self.folder / name}"]
        return [sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", *fixed, *overrides]

    def __call__(self, name: str, *overrides: str) -> tuple[dict[str, Any], str]:
        done = subprocess.run(
            self.command(name, *overrides), cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return self.results(name), done.stdout

    def results(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name / "results.json").read_text())

    def weights(self, name: str, phase: str = "02_skills") -> bytes:
        return (self.folder / name / "phases" / phase / "checkpoint" / "model.safetensors").read_bytes()


def reused(results: dict[str, Any]) -> list[bool]:
    return [phase["reused"] for phase in results["phases"]]
