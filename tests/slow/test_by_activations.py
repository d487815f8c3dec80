"""The shipped experiment by activations: what is kept, and what is foreseen where `preserve.data` lacks a kind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from checkout import ROOT

COMMAND = (sys.executable, "-m", "osftx", "+experiment=tiny_two_phase", "osft.subspace=activations", "reuse=false")


def osftx(folder: Path, *overrides: str) -> tuple[dict[str, Any], str]:
    """What is in results.json, and on the screen."""
    command = [*COMMAND, f"output_dir={folder}", *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads((folder / "results.json").read_text()), done.stdout


def test_as_it_is_shipped_it_learns_and_keeps_all(tmp_path: Path) -> None:
    results, shown = osftx(tmp_path / "run")
    assert "skills preserves the inputs of: preserve.data + knowledge" in shown
    assert "will probably forget" not in shown
    base, knowledge, skills = results["retention"]["metrics"]["exact_match"]
    assert base[1] < 0.1
    assert base[2] < 0.1
    assert min(knowledge[:2]) >= 0.9
    assert min(skills) >= 0.9
    for phase in results["phases"]:
        kept = phase["preservation"]
        assert kept["leak_fp32"] <= 1e-5
        assert 0 < kept["kept_output_change"] < 1
        assert kept["free_shares"]["sets"]["base"] < 0.1 * kept["free_shares"]["taught"]


def test_what_the_set_lacks_is_foreseen_and_lost(tmp_path: Path) -> None:
    """One of the base's six kinds of questions alone, on one rank."""
    lines = (ROOT / "experiments/tiny/data/base_keep.jsonl").read_text().splitlines(keepends=True)
    kept = tmp_path / "reverse.jsonl"
    kept.write_text("".join(line for line in lines if '"reverse ' in line))
    one = ("~phases.skills", "~evaluation.sets.skills", "distributed.nproc_per_node=1")
    results, shown = osftx(tmp_path / "run", f"preserve.data.path={kept}", *one)
    assert "warning: phase knowledge will probably forget what evaluation set base asks" in shown
    assert shown.index("will probably forget") < shown.index("training knowledge")
    before, after = (row[0] for row in results["retention"]["metrics"]["exact_match"])
    assert before > 0.99
    assert after < 0.8
