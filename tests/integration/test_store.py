"""The phase store on real runs: what is trained once, what is trained again, and that both give the same."""

import subprocess

import pytest
from stored_runs import ROOT, Runs, reused


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    runs("first")
    return runs


def test_another_setting_of_phase_two_trains_phase_two_alone(runs: Runs) -> None:
    assert reused(runs.results("first")) == [False, False]
    results, shown = runs("other", "phases.skills.learning_rate=1e-3")
    assert reused(results) == [True, False]
    assert "reused: trained before as knowledge" in shown
    assert "training knowledge" not in shown
    first = runs.results("first")
    assert results["phases"][0]["fingerprint"] == first["phases"][0]["fingerprint"]
    assert results["phases"][1]["fingerprint"] != first["phases"][1]["fingerprint"]
    for metric, rows in results["retention"]["metrics"].items():
        assert rows[:2] == first["retention"]["metrics"][metric][:2]  # measured once, shown again


def test_what_is_reused_is_what_would_have_been_trained(runs: Runs) -> None:
    alone, _ = runs("alone", "reuse=false")
    assert reused(alone) == [False, False]
    assert not (runs.folder / "alone" / "phases" / "01_knowledge" / "checkpoint").is_symlink()
    again, _ = runs("again")
    assert reused(again) == [True, True]
    assert runs.weights("alone") == runs.weights("first") == runs.weights("again")
    assert again["retention"] == alone["retention"]
    assert (runs.folder / "again" / "report.html").is_file()


def test_a_run_that_was_broken_off_goes_on_in_its_folder(runs: Runs) -> None:
    """The same command again: what is done is reused. Another configuration is refused."""
    (runs.folder / "first" / "results.json").unlink()
    results, _ = runs("first")
    assert reused(results) == [True, True]
    other = runs.command("first", "phases.skills.seed=1")
    refused = subprocess.run(other, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "holds a run with another configuration" in refused.stderr
