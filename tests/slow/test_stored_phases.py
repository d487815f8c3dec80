"""Stored phases on real runs: what starts from them, what is measured of them, damaged ones, sweeps."""

import json
import subprocess

import pytest
from stored_runs import ROOT, Runs, reused

from osftx.config.phase_spec import PhaseSpec
from osftx.launch.cluster import Cluster
from osftx.store.entries import verified


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    runs("first")
    return runs


def test_starting_at_phase_two_repeats_it_bit_for_bit(runs: Runs) -> None:
    """From the checkpoint alone: what must be kept lies beside it, and `preserve.data` is not read."""
    first = runs.folder / "first" / "phases" / "01_knowledge" / "checkpoint"
    results, _ = runs("later", "reuse=false", f"phases.skills.init_from={first}", "preserve.data.path=none.jsonl")
    assert [path.name for path in (runs.folder / "later" / "phases").iterdir()] == ["02_skills"]
    assert runs.weights("later") == runs.weights("first")
    metrics = runs.results("first")["retention"]["metrics"]["exact_match"]
    assert results["retention"]["metrics"]["exact_match"] == metrics[1:]


def test_an_evaluation_set_more_is_measured_without_training(runs: Runs) -> None:
    more = ("+data@evaluation.sets.seen=tiny_knowledge", "+evaluation.sets.seen.learned_in=knowledge")
    results, shown = runs("more", *more)
    assert reused(results) == [True, True]
    assert "training" not in shown.replace("another run is training", "")
    assert results["retention"]["sets"][-1] == "seen"
    first = runs.results("first")["retention"]["metrics"]["loss"]
    for row, known in zip(results["retention"]["metrics"]["loss"], first, strict=True):
        assert row[:-1] == known
        assert row[-1] > 0


def test_a_flipped_bit_is_found_and_the_phase_trained_again(runs: Runs) -> None:
    before = runs.weights("first", "01_knowledge")
    fingerprint = runs.results("first")["phases"][0]["fingerprint"]
    stored = runs.store / "phases" / fingerprint / "checkpoint" / "model.safetensors"
    damaged = bytearray(stored.read_bytes())
    damaged[-1000] ^= 1
    stored.write_bytes(damaged)
    results, shown = runs("mended")
    assert "has another content" in shown
    assert reused(results) == [False, True]
    assert runs.weights("mended", "01_knowledge") == before
    assert len(list((runs.store / "phases").glob(f"{fingerprint}.damaged-*"))) == 1


def test_a_sweep_trains_a_phase_once_and_survives_a_failed_job(runs: Runs) -> None:
    """Two seeds of phase 2, one of them in the store already, each also with samples that are all too long."""
    sweep = runs.folder / "sweep"
    command = [word for word in runs.command("") if not word.startswith("output_dir=")]
    swept = ["phases.skills.seed=42,1", "phases.skills.max_seq_len=32,5", f"hydra.sweep.dir={sweep}"]
    done = subprocess.run([*command, *swept, "-m"], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 2  # all that failed was wrong in the configuration
    assert "Traceback" not in done.stdout + done.stderr
    content = json.loads((sweep / "sweep.json").read_text())
    assert (content["trained"], content["reused"]) == (1, 3)
    assert [job["failure"] is not None for job in content["jobs"]] == [False, True, False, True]
    assert "all 120 samples are longer than max_seq_len = 5" in content["jobs"][1]["failure"]
    assert [job["trained"] for job in content["jobs"]] == [0, 0, 1, 0]
    assert content["jobs"][2]["objective"] == pytest.approx(content["jobs"][2]["summary"]["average_accuracy"])
    assert "1 phases trained, 3 reused, 2 of 4 jobs failed" in done.stdout
    assert "phases.skills.seed=1" in done.stdout


def test_running_a_phase_by_hand_does_not_write_into_the_store(runs: Runs) -> None:
    folder = runs.folder / "first" / "phases" / "01_knowledge"
    stored = (folder / "checkpoint").resolve()
    before = runs.weights("first", "01_knowledge")
    Cluster().launch(PhaseSpec.load(folder / "phase.yaml"))
    assert not (folder / "checkpoint").is_symlink()
    assert runs.weights("first", "01_knowledge") == before
    assert verified(stored.parent) is not None
