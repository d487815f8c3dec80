"""What results.json says after some phases."""

import json
from pathlib import Path
from typing import Any

import pytest
from measured_phases import ACCURACY, ARGUMENTS, NAMES, SETS, experiment, finished, measured

from osftx.config.schema import EvaluationSetConfig, ExperimentConfig
from osftx.data.samples import EMPTY_TURNS, DataSummary, SkippedRow
from osftx.results.summarize import Finished, summarize


def collected(config: ExperimentConfig, *names: str) -> dict[str, Any]:
    return summarized(config, finished(config, Path("/run"), *names))


def summarized(config: ExperimentConfig, phases: Finished) -> dict[str, Any]:
    return summarize(config, phases, Path("/run"), ARGUMENTS, "start", measured_beside={}, skipped={})


def test_results_of_a_whole_run() -> None:
    results = collected(experiment(), *NAMES)
    assert results["experiment"] == "study"
    assert results["retention"]["states"] == ["base", *NAMES]
    assert results["retention"]["sets"] == SETS
    assert results["retention"]["metrics"]["exact_match"] == list(ACCURACY.values())
    assert results["summary"] == {
        # (0.5 + 0.7 + 0.7 + 1.0) / 4; the last phase's own set cannot have been forgotten yet:
        "average_accuracy": pytest.approx(0.725),
        "learning_accuracy": pytest.approx((1.0 + 0.9 + 1.0) / 3),
        "forgetting": pytest.approx(((0.9 - 0.5) + (1.0 - 0.7) + (0.9 - 0.7)) / 3),
        "backward_transfer": pytest.approx(-((0.9 - 0.5) + (1.0 - 0.7) + (0.9 - 0.7)) / 3),
    }
    assert results["objective"] == results["summary"]["average_accuracy"]
    assert results["phases"][1] == {
        "name": "two",
        "method": "osft",
        "unfreeze_rank_ratio": 0.3,
        "checkpoint": "phases/02_two/checkpoint",
        "fingerprint": "f-two",
        "reused": False,
        "steps": 20,
        "tokens": 1000,
        "duration_s": 1.5,
        "validation": None,
        "fill": None,
        "preservation": {
            "leak_fp32": 3e-7,
            "leak_saved": 9e-3,
            "worst_weight": "v_proj",
            "free_input_share": 0.4,
            "kept_output_change": 0.02,
            "update_kept": pytest.approx(0.95),
            "free_shares": None,
        },
        "curve": [],
    }
    assert results["command"].endswith(" -m osftx +experiment=study training.seed=1")
    assert {"osftx", "torch", "deepspeed"} <= set(results["versions"])
    assert json.loads(json.dumps(results)) == results


def test_sets_of_phases_still_to_come_are_measured_but_not_summed_up() -> None:
    """In the middle of a run nothing has been taught to forget in phase three, and its set is not yet a failure."""
    results = collected(experiment(), "one", "two")
    assert results["retention"]["sets"] == SETS
    # Sets base, one, two at the state after phase two.
    assert results["summary"] == {
        "average_accuracy": pytest.approx((0.6 + 0.8 + 0.9) / 3),
        "learning_accuracy": pytest.approx((1.0 + 0.9) / 2),
        "forgetting": pytest.approx(((0.9 - 0.6) + (1.0 - 0.8)) / 2),
        "backward_transfer": pytest.approx(-((0.9 - 0.6) + (1.0 - 0.8)) / 2),
    }


def test_a_skipped_phase_counts_as_what_the_base_of_the_run_knows() -> None:
    config = experiment()
    config.phases["two"].init_from = "earlier/checkpoint"
    results = collected(config, "two", "three")
    assert results["retention"]["states"] == ["base", "two", "three"]
    # Set `one` was taught before this run, so it counts from the first row (0.1), like set `base`.
    assert results["summary"] == {
        "average_accuracy": pytest.approx(0.725),
        "learning_accuracy": pytest.approx((0.9 + 1.0) / 2),
        "forgetting": pytest.approx(((0.9 - 0.5) + (0.8 - 0.7) + (0.9 - 0.7)) / 3),
        "backward_transfer": pytest.approx(((0.5 - 0.9) + (0.7 - 0.1) + (0.7 - 0.9)) / 3),
    }


def test_a_set_counts_from_the_phase_that_it_names() -> None:
    config = experiment()
    config.evaluation.sets = {"base": EvaluationSetConfig(path="x", learned_in="two")}
    # Row two is 0.6; what came before does not count.
    assert collected(config, *NAMES)["summary"] == {
        "average_accuracy": 0.5,
        "learning_accuracy": 0.6,
        "forgetting": pytest.approx(0.6 - 0.5),
        "backward_transfer": pytest.approx(0.5 - 0.6),
    }


def test_without_sets_there_is_nothing_to_sum_up() -> None:
    config = experiment()
    config.evaluation.sets = {}
    results = collected(config, *NAMES)
    assert results["retention"]["metrics"]["exact_match"] == [[], [], [], []]
    assert set(results["summary"].values()) == {None}
    assert results["objective"] is None


def test_sft_preserves_nothing_and_says_so() -> None:
    config = experiment()
    config.phases["one"].method = "sft"
    assert collected(config, "one")["phases"][0]["preservation"] == {
        "leak_fp32": None,
        "leak_saved": None,
        "worst_weight": None,
        "free_input_share": None,
        "kept_output_change": None,
        "update_kept": None,
        "free_shares": None,
    }


def test_free_shares_have_the_names_of_this_run() -> None:
    """A reused phase was measured on sets of another run, under other names, and not on all of this one's."""
    config = experiment()
    phases = finished(config, Path("/run"), "one")
    spec, result = phases[0]
    spec.evaluation_sets = {"base": "/data/known", "new": "/data/unknown"}
    result["free_shares"] = {"taught": 0.09, "sets": {"known": 0.01, "another": 0.5}}
    results = summarized(config, phases)
    assert results["phases"][0]["preservation"]["free_shares"] == {"taught": 0.09, "sets": {"base": 0.01}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("summary.forgetting", pytest.approx(0.3)),
        ("phases.2.steps", 30),
        ("phases.0.preservation.leak_saved", 9e-3),
        ("retention.metrics.exact_match.3.1", 0.7),
        ("retention.metrics.loss.1.0", pytest.approx(0.2)),
        ("phases.3.steps", None),  # no such phase
        ("retention.metrics.exact_match.0.9", None),  # no such set
        ("phases.name.steps", None),
        ("summary.nothing", None),
        ("phases.0.name", None),  # no number
        ("experiment.name", None),
    ],
)
def test_the_objective_is_the_number_at_its_path(path: str, value: float | None) -> None:
    assert collected(experiment(objective=path), *NAMES)["objective"] == value


def test_several_objectives_are_a_list_of_numbers() -> None:
    several = ["summary.learning_accuracy", "summary.forgetting"]
    results = collected(experiment(objective=several), *NAMES)
    assert results["objective"] == [results["summary"]["learning_accuracy"], results["summary"]["forgetting"]]
    assert collected(experiment(objective=several[:1]), *NAMES)["objective"] == results["objective"][:1]


def test_a_curve_goes_from_the_state_before_to_the_last_step() -> None:
    config = experiment()
    phases = finished(config, Path("/run"), "one", "two")
    between = [{"step": 4, "evaluation": measured("one")}, {"step": 8, "evaluation": measured("two")}]
    phases[1][1]["curve"] = between
    one, two = summarized(config, phases)["phases"]
    assert one["curve"] == []
    assert two["curve"] == [
        {"step": 0, "evaluation": measured("one")},
        *between,
        {"step": 20, "evaluation": measured("two")},
    ]


def test_rows_that_were_left_out_are_listed_by_setting() -> None:
    config = experiment()
    data = DataSummary("one.jsonl", skipped=2, skipped_rows=[SkippedRow("a:3", "is wrong")])
    phases = finished(config, Path("/run"), "one")
    results = summarize(config, phases, Path("/run"), ARGUMENTS, "start", {}, {"phases.one.data": data})
    assert results["skipped_rows"] == [
        {"setting": "phases.one.data", "rows": 2, "first": [{"place": "a:3", "reason": "is wrong"}]}
    ]


def test_rows_that_were_adjusted_are_counted_by_setting() -> None:
    data = DataSummary("one.jsonl", adjusted={EMPTY_TURNS: 3})
    phases = finished(experiment(), Path("/run"), "one")
    results = summarize(experiment(), phases, Path("/run"), ARGUMENTS, "start", {}, {"phases.one.data": data})
    assert results["adjusted_rows"] == [{"setting": "phases.one.data", "adjusted": {EMPTY_TURNS: 3}}]
    assert results["skipped_rows"] == []


def test_benchmarks_stand_in_the_retention_table() -> None:
    config = experiment()
    benchmarks = {"tasks": ["mmlu"], "metrics": {"mmlu": "acc"}, "values": [[0.6], [0.5]]}
    phases = finished(config, Path("/run"), "one")
    results = summarize(config, phases, Path("/run"), ARGUMENTS, "start", {"benchmarks": benchmarks, "other": None}, {})
    assert results["retention"]["benchmarks"] == benchmarks
    assert "other" not in results["retention"]
