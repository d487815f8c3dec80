"""The table after each phase: evaluation sets, then benchmarks, where there are any."""

from typing import Any

import pytest

from osftx.results.show_retention import show_retention

SETS = {"exact_match": [[0.5], [0.25]], "loss": [[1.0], [2.0]], "token_accuracy": [[0.6], [0.3]]}
NO_SETS: dict[str, Any] = {metric: [[], []] for metric in SETS}
BENCHMARKS = {"tasks": ["gsm8k"], "metrics": {"gsm8k": "exact_match,strict-match"}, "values": [[0.71], [0.69]]}
KEPT = {
    "leak_fp32": None,
    "leak_saved": None,
    "worst_weight": None,
    "free_input_share": None,
    "kept_output_change": None,
    "free_shares": None,
    "update_kept": None,
}


def shown(capsys: pytest.CaptureFixture[str], sets: bool, benchmarks: bool) -> str:
    retention: dict[str, Any] = {
        "sets": ["facts"] if sets else [],
        "states": ["base", "first"],
        "metrics": SETS if sets else NO_SETS,
    }
    if benchmarks:
        retention["benchmarks"] = BENCHMARKS
    show_retention({"retention": retention, "summary": {"forgetting": 0.1}, "phases": [{"preservation": KEPT}]})
    return capsys.readouterr().out


def test_benchmarks_stand_beside_the_sets(capsys: pytest.CaptureFixture[str]) -> None:
    table = shown(capsys, sets=True, benchmarks=True)
    (row,) = [line for line in table.splitlines() if "first" in line]
    assert row.index("0.250 (2.000)") < row.index("0.690")
    assert "strict-match" in table
    assert "forgetting 0.100" in table


def test_benchmarks_alone_and_sets_alone(capsys: pytest.CaptureFixture[str]) -> None:
    alone = shown(capsys, sets=False, benchmarks=True)
    assert "Benchmarks" in alone
    assert "Exact match" not in alone
    assert "gsm8k" not in shown(capsys, sets=True, benchmarks=False)
    assert shown(capsys, sets=False, benchmarks=False) == ""


def test_generated_answers_stand_between_sets_and_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    generated = {
        "sets": ["facts"],
        "scores": {"facts": "contains"},
        "values": [[0.125], [0.875]],
        "cut_off": [[0], [3]],
    }
    retention = {
        "sets": ["facts"],
        "states": ["base", "first"],
        "metrics": SETS,
        "benchmarks": BENCHMARKS,
        "generated": generated,
    }
    show_retention({"retention": retention, "summary": {"forgetting": 0.1}, "phases": [{"preservation": KEPT}]})
    text = capsys.readouterr().out
    (row,) = [line for line in text.splitlines() if "first" in line]
    assert row.index("0.250 (2.000)") < row.index("0.875") < row.index("0.690")
    assert "3 answers to facts were cut off at evaluation.sets.facts.max_new_tokens" in text


def test_what_was_foreseen_of_each_set_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"taught": 0.0941, "sets": {"base": 0.0042, "facts": 0.0871}}
    retention = {"sets": [], "states": ["base", "first"], "metrics": NO_SETS}
    phase = {"name": "first", "preservation": {**KEPT, "free_shares": shares}}
    show_retention({"retention": retention, "summary": {}, "phases": [phase]})
    line = "subspace overlap: 0.094 of what is taught, 0.0042 of base, 0.087 of facts"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(("update_kept", "warned"), [(0.41, True), (0.95, False), (None, False)])
def test_what_rounding_took_off_is_told(
    capsys: pytest.CaptureFixture[str], update_kept: float | None, warned: bool
) -> None:
    retention = {"sets": [], "states": ["base", "first"], "metrics": NO_SETS}
    phase = {"name": "first", "preservation": {**KEPT, "update_kept": update_kept}}
    show_retention({"retention": retention, "summary": {}, "phases": [phase]})
    lines = capsys.readouterr().out
    assert ("warning: 41% of the update of first" in lines) is warned
    assert ("phases.first.save_dtype=float32" in lines) is warned
