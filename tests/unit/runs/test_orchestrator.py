"""The walk over the phases and what results.json says, with ranks that only leave a result behind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osftx.config.phase_spec import PhaseSpec
from osftx.config.schema import (
    DataConfig,
    EvaluationSetConfig,
    ExperimentConfig,
    ModelConfig,
    PhaseConfig,
    TrainingConfig,
)
from osftx.data.samples import DataSummary, Prepared, SkippedRow
from osftx.errors import TrainingError
from osftx.launch.cluster import Cluster
from osftx.models.files import ModelFiles
from osftx.models.targets import Target
from osftx.planning.plan import make_plan
from osftx.planning.preflight import Checked
from osftx.runs import orchestrator
from osftx.runs.orchestrator import collect

NAMES = ("one", "two", "three")
# Exact match of each set (columns base, one, two, three) at each state; loss and token accuracy follow from it.
ACCURACY = {
    "base": [0.9, 0.1, 0.0, 0.0],
    "one": [0.8, 1.0, 0.1, 0.0],
    "two": [0.6, 0.8, 0.9, 0.0],
    "three": [0.5, 0.7, 0.7, 1.0],
}
SETS = list(ACCURACY)
ARGUMENTS = ["+experiment=study", "training.seed=1"]


def experiment(**changes: Any) -> ExperimentConfig:
    config = ExperimentConfig(name="study", model=ModelConfig(path="hub/name", attn_implementation="eager"))
    config.phases = {
        name: PhaseConfig(data=DataConfig(f"{name}.jsonl"), **vars(TrainingConfig(num_epochs=place)))
        for place, name in enumerate(NAMES, start=1)
    }
    config.evaluation.sets = {name: EvaluationSetConfig(path=f"{name}_eval.jsonl") for name in SETS}
    config.distributed.nproc_per_node = 2
    for key, value in changes.items():
        setattr(config, key, value)
    return config


def measured(state: str) -> dict[str, dict[str, float]]:
    return {
        name: {"exact_match": value, "loss": 1 - value, "token_accuracy": value / 2, "samples": 4}
        for name, value in zip(SETS, ACCURACY[state], strict=True)
    }


def result_of(spec: PhaseSpec) -> dict[str, Any]:
    """What rank 0 leaves behind."""
    kept: list[dict[str, Any]] = [
        {"name": "q_proj", "leak_fp32": 3e-7, "leak_saved": 4e-3, "free_input_share": 0.3, "kept_output_change": 0.02},
        {"name": "v_proj", "leak_fp32": 1e-7, "leak_saved": 9e-3, "free_input_share": 0.4, "kept_output_change": 0.01},
    ]
    kept[0]["update_kept"], kept[1]["update_kept"] = 0.95, None
    for target in kept:
        target.update(shape=[4, 4], frozen_rank=3, free_rank=1, relative_change=0.1, update_norm=0.2)
    return {
        "name": spec.name,
        "steps": 10 * (spec.index + 1),
        "tokens": 1000,
        "duration_s": 1.5,
        "evaluation_before": measured("base") if spec.evaluate_before else None,
        "evaluation": measured(spec.name),
        "targets": kept if spec.method == "osft" else [],
    }


def finished(config: ExperimentConfig, run_folder: Path, *names: str) -> list[tuple[PhaseSpec, dict[str, Any]]]:
    phases = []
    for name in names:
        index = NAMES.index(name)
        spec = PhaseSpec(
            index=index,
            name=name,
            method=config.phases[name].method,
            unfreeze_rank_ratio=0.3,
            model=config.model,
            training=config.training,
            osft=config.osft,
            distributed=config.distributed,
            data="data",
            folder=str(run_folder / "phases" / f"{index + 1:02d}_{name}"),
            evaluation_max_tokens=64,
            evaluate_before=name == names[0],
        )
        phases.append((spec, result_of(spec) | {"fingerprint": f"f-{name}", "reused": False}))
    return phases


def collected(config: ExperimentConfig, *names: str) -> dict[str, Any]:
    return collect(config, finished(config, Path("/run"), *names), Path("/run"), ARGUMENTS, "start")


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
    results = collect(config, phases, Path("/run"), ARGUMENTS, "start")
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


class Ranks(Cluster):
    """Keeps the specs and leaves each phase's result; fails at a phase if told to."""

    def __init__(self, fails_at: str | None = None):
        super().__init__()
        self.fails_at = fails_at
        self.specs: list[PhaseSpec] = []

    def launch(self, spec: PhaseSpec) -> None:
        file = Path(spec.folder) / "phase.yaml"
        assert PhaseSpec.load(file) == spec
        self.specs.append(spec)
        if spec.name == self.fails_at:
            raise TrainingError(f"phase {spec.name!r} failed on rank 1")
        (Path(spec.folder) / "result.json").write_text(json.dumps(result_of(spec)))


def test_a_curve_goes_from_the_state_before_to_the_last_step(tmp_path: Path) -> None:
    config = experiment()
    phases = finished(config, tmp_path, "one", "two")
    between = [{"step": 4, "evaluation": measured("one")}, {"step": 8, "evaluation": measured("two")}]
    phases[1][1]["curve"] = between
    one, two = collect(config, phases, tmp_path, [], "start")["phases"]
    assert one["curve"] == []
    assert two["curve"] == [
        {"step": 0, "evaluation": measured("one")},
        *between,
        {"step": 20, "evaluation": measured("two")},
    ]


def walk(
    config: ExperimentConfig,
    run_folder: Path,
    ranks: Ranks,
    arguments: Sequence[str] = ARGUMENTS,
) -> dict[str, Any]:
    data = {name: DataSummary(f"{name}.jsonl", samples=8) for name in NAMES}
    plan = make_plan(config, ModelFiles({}, {"a.weight": (4, 4)}), [Target("a", ((4, 4),))], data)
    summary = DataSummary("one.jsonl", skipped=2, skipped_rows=[SkippedRow("a:3", "is wrong")])
    checked = Checked(
        plan,
        Path("/models/base"),
        {name: Path("/data") / name for name in NAMES},
        {name: Path("/sets") / name for name in SETS},
        read={"phases.one.data": Prepared(None, summary, np.empty(0), np.empty(0), "")},
    )
    (run_folder / "plan.json").write_text(json.dumps(plan.to_dict()))
    config.reuse = False
    return orchestrator.run(config, checked, run_folder, arguments, ranks)


def test_each_phase_gets_its_own_settings_and_the_checkpoint_of_the_one_before(tmp_path: Path) -> None:
    ranks = Ranks()
    results = walk(experiment(), tmp_path, ranks)
    assert [Path(spec.folder) for spec in ranks.specs] == [
        tmp_path / "phases" / name for name in ("01_one", "02_two", "03_three")
    ]
    assert [spec.model.path for spec in ranks.specs] == [
        "/models/base",
        str(tmp_path / "phases" / "01_one" / "checkpoint"),
        str(tmp_path / "phases" / "02_two" / "checkpoint"),
    ]
    assert [spec.model.attn_implementation for spec in ranks.specs] == ["eager"] * 3
    assert [spec.unfreeze_rank_ratio for spec in ranks.specs] == [0.3, 0.2, 0.1]
    assert [spec.training.num_epochs for spec in ranks.specs] == [1, 2, 3]
    assert [spec.data for spec in ranks.specs] == [f"/data/{name}" for name in NAMES]
    assert [spec.evaluate_before for spec in ranks.specs] == [True, False, False]
    assert ranks.specs[2].evaluation_sets == {name: f"/sets/{name}" for name in SETS}
    assert results["skipped_rows"] == [
        {"setting": "phases.one.data", "rows": 2, "first": [{"place": "a:3", "reason": "is wrong"}]}
    ]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (tmp_path / "report.html").is_file()


def test_a_failed_phase_keeps_the_results_before_it_and_says_how_to_go_on(tmp_path: Path) -> None:
    config = experiment()
    config.phases["two"].init_from = "a b"
    command = ["+experiment=study", "phases.two.init_from=a b", "+training.seed=1", f"output_dir={tmp_path}"]
    with pytest.raises(TrainingError) as raised:
        walk(config, tmp_path, Ranks(fails_at="three"), command)
    assert [phase["name"] for phase in json.loads((tmp_path / "results.json").read_text())["phases"]] == ["two"]
    first, go_on = str(raised.value).splitlines()
    assert first == "phase 'three' failed on rank 1"
    # One starting point, and not the folder that holds this run.
    checkpoint = tmp_path / "phases" / "02_two" / "checkpoint"
    assert go_on.endswith(f"python -m osftx +experiment=study +training.seed=1 phases.three.init_from={checkpoint}")


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.html").mkdir()
    results = walk(experiment(), tmp_path, Ranks())
    assert [phase["name"] for phase in results["phases"]] == list(NAMES)
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(NAMES)
    assert "the report could not be written (IsADirectoryError: " in warnings[0]
