"""The numbers of the plan, worked out by hand."""

import json
from dataclasses import replace
from typing import Any

import pytest
from plans import plan_of

from osftx.config.schema import (
    EvaluationSetConfig,
    ExperimentConfig,
    ModelConfig,
    PhaseConfig,
    ScheduleConfig,
    TrainingConfig,
)
from osftx.data.samples import DataSummary
from osftx.models.files import ModelFiles
from osftx.models.targets import Target
from osftx.planning.estimate.duration import Duration
from osftx.planning.plan import Plan, PlannedPhase

# 1000 numbers, 400 of them in two targets of short side 10.
MODEL = ModelFiles({}, {"embedding.weight": (60, 10), "a.weight": (20, 10), "b.weight": (10, 20)})
TARGETS = [Target("a", ((20, 10),)), Target("b", ((10, 20),))]


def phase(**settings: Any) -> PhaseConfig:
    """A phase with its interpolations resolved, as the plan gets it."""
    return PhaseConfig(**(vars(TrainingConfig(num_epochs=2, effective_batch_size=8)) | settings))


def experiment(**phases: PhaseConfig) -> ExperimentConfig:
    return ExperimentConfig(name="study", model=ModelConfig(path="base-model", revision="v2"), phases=phases)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell how much memory the GPUs have."""
    monkeypatch.setattr("osftx.planning.resources.smallest_memory", lambda: None)


def planned(config: ExperimentConfig, targets: list[Target] = TARGETS) -> dict[str, PlannedPhase]:
    data = {
        name: DataSummary(f"{name}.jsonl", samples=21 + place, dropped=place, tokens=300 + place)
        for place, name in enumerate(config.phases)
    }
    return {entry.name: entry for entry in plan_of(config, MODEL, targets, data).phases}


def without_estimates(plan: Plan) -> Plan:
    """What a phase holds and writes is counted in `estimate`."""
    assert all(phase.memory is not None and phase.disk is not None for phase in plan.phases)
    return replace(plan, phases=[replace(phase, memory=None, disk=None) for phase in plan.phases])


def test_every_number_of_a_plan() -> None:
    config = experiment(one=phase(), two=phase(method="sft", learning_rate=1e-4), three=phase())
    plan = plan_of(config, MODEL, TARGETS, {name: DataSummary(name, 21, 4, 300, 100, 30) for name in config.phases})
    assert without_estimates(plan) == Plan(
        name="study",
        # Steps: 21 samples * 2 epochs = 42 = 5 * 8 + 2, so 6. Ratio 0.3 keeps floor(10 * 0.7) = 7 of 10 directions, so
        # 20 * 3 numbers per target; 0.2 keeps 8: 20 * 2.
        phases=[
            PlannedPhase(0, "one", "osft", 0.3, 5e-6, 21, {}, 4, 300, 6, "base-model", 120, 1000, None),
            PlannedPhase(1, "two", "sft", None, 1e-4, 21, {}, 4, 300, 6, "one", 1000, 0, None),
            PlannedPhase(2, "three", "osft", 0.2, 5e-6, 21, {}, 4, 300, 6, "two", 80, 1000, None),
        ],
        warnings=[],
        protected="a x 1, b x 1",
    )


def test_a_plan_becomes_plain_data() -> None:
    plan = plan_of(experiment(one=phase()), MODEL, TARGETS, {"one": DataSummary("one.jsonl", samples=8)})
    content = plan.to_dict()
    assert list(content) == ["name", "phases", "warnings", "protected", "left_out"]
    (one,) = json.loads(json.dumps(content))["phases"]
    assert (one["name"], one["steps"], one["duration"]) == ("one", 2, None)
    assert one["memory"]["device"]["moments"] > 0
    assert one["disk"]["checkpoint"] == 2 * 1000
    assert not one.keys() & {"outline", "data", "spec"}, "what a phase is run with is no figure"


def test_durations_and_warnings_are_added_to_a_plan_of_their_own() -> None:
    plan = plan_of(experiment(one=phase()), MODEL, TARGETS, {"one": DataSummary("one.jsonl", samples=8)})
    timed = plan.with_durations([Duration(1.0, 2.0, 3.0, 4.0)])
    assert timed.to_dict()["phases"][0]["duration"] == {"start": 1.0, "training": 2.0, "measuring": 3.0, "saving": 4.0}
    warned = plan.with_warnings(["first"]).with_warnings(["second"])
    assert warned.warnings == [*plan.warnings, "first", "second"]
    assert (plan.phases[0].duration, plan.warnings) == (None, [])
    with pytest.raises(ValueError, match="zip"):
        plan.with_durations([])


@pytest.mark.parametrize(
    ("samples", "epochs", "batch", "steps"),
    [
        (24, 1, 8, 3),
        (25, 1, 8, 4),
        (23, 1, 8, 3),
        (12, 3, 8, 5),  # steps run across epochs: 36 / 8, not 3 * ceil(12 / 8)
        (1, 1, 128, 1),
    ],
)
def test_steps_with_a_remainder(samples: int, epochs: int, batch: int, steps: int) -> None:
    config = experiment(one=phase(num_epochs=epochs, effective_batch_size=batch))
    plan = plan_of(config, MODEL, TARGETS, {"one": DataSummary("one.jsonl", samples=samples)})
    assert plan.phases[0].steps == steps


@pytest.mark.parametrize(
    ("ratio", "trainable", "frozen", "trains"),
    [
        (0.0, 0, 1000, False),
        (0.1, 40, 1000, True),  # 1 of 10 directions, 20 numbers each
        (0.95, 400, 1000, True),  # floor(0.5) = 0 directions kept: a full update beside the frozen weight
        (1.0, 400, 600, True),  # the targets themselves are trained
    ],
)
def test_counts_at_both_ends_of_the_ratio(ratio: float, trainable: int, frozen: int, trains: bool) -> None:
    entry = planned(experiment(one=phase(unfreeze_rank_ratio=ratio)))["one"]
    assert (entry.trainable_parameters, entry.frozen_parameters) == (trainable, frozen)
    assert (entry.steps > 0) is trains
    assert entry.samples == 21


def test_sft_trains_every_number_of_the_model() -> None:
    entry = planned(experiment(one=phase(method="sft")), targets=[])["one"]
    assert (entry.trainable_parameters, entry.frozen_parameters) == (1000, 0)
    assert entry.unfreeze_rank_ratio is None


def test_each_phase_starts_from_the_one_before() -> None:
    plan = planned(experiment(one=phase(), two=phase(), three=phase()))
    assert [entry.starts_from for entry in plan.values()] == ["base-model", "one", "two"]


def test_init_from_skips_the_phases_before_it_and_keeps_index_and_ratio() -> None:
    config = experiment(one=phase(), two=phase(init_from="earlier/checkpoint"), three=phase())
    plan = planned(config)
    assert [(entry.index, entry.name, entry.starts_from) for entry in plan.values()] == [
        (1, "two", "earlier/checkpoint"),
        (2, "three", "two"),
    ]
    assert [entry.unfreeze_rank_ratio for entry in plan.values()] == [0.2, 0.1]


def test_phase_order_decides_index_chain_and_ratio() -> None:
    config = experiment(one=phase(), two=phase(), three=phase())
    config.phase_order = ["three", "one", "two"]
    plan = planned(config)
    assert [(entry.index, entry.name, entry.starts_from) for entry in plan.values()] == [
        (0, "three", "base-model"),
        (1, "one", "three"),
        (2, "two", "one"),
    ]
    assert [entry.unfreeze_rank_ratio for entry in plan.values()] == [0.3, 0.2, 0.1]
    # Each keeps its own data.
    assert [(entry.samples, entry.dropped, entry.tokens) for entry in plan.values()] == [
        (23, 2, 302),
        (21, 0, 300),
        (22, 1, 301),
    ]


def test_warnings_come_from_the_schedule() -> None:
    config = experiment(one=phase())
    config.schedule = ScheduleConfig(initial=0.5)
    (warning,) = plan_of(config, MODEL, TARGETS, {"one": DataSummary("one.jsonl", samples=8)}).warnings
    assert "schedule.initial" in warning


def test_a_set_that_no_phase_teaches_is_pointed_out() -> None:
    """As after `~phases.two`: what is left would count as what the base model knows."""
    config = experiment(one=phase(unfreeze_rank_ratio=0.3))
    names = ("base", "one", "two", "general")
    config.evaluation.sets = {name: EvaluationSetConfig(path=f"{name}.jsonl") for name in names}
    config.evaluation.sets["general"].learned_in = "base"
    (warning,) = plan_of(config, MODEL, TARGETS, {"one": DataSummary("one.jsonl", samples=8)}).warnings
    assert warning.startswith("evaluation set two: no phase has its name")
    assert "~evaluation.sets.two" in warning


def kept(config: ExperimentConfig, recorded: tuple[str, ...] = ()) -> dict[str, str | None]:
    data = {name: DataSummary(f"{name}.jsonl", samples=8) for name in config.phases}
    return {entry.name: entry.keeps for entry in plan_of(config, MODEL, TARGETS, data, recorded).phases}


def test_by_activations_each_phase_keeps_the_inputs_of_all_before_it() -> None:
    config = experiment(one=phase(), two=phase(), three=phase())
    assert set(kept(config).values()) == {None}
    config.osft.subspace = "activations"
    assert kept(config) == {
        "one": "preserve.data",
        "two": "preserve.data + one",
        "three": "preserve.data + one + two",
    }
    assert kept(config, ("preserve.data", "zero"))["two"] == "preserve.data + zero + one"


def test_a_start_without_a_record_is_told() -> None:
    config = experiment(one=phase(), two=phase(init_from="somewhere/checkpoint"))
    config.osft.subspace = "activations"
    data = {"two": DataSummary("two.jsonl", samples=8)}
    (warning,) = plan_of(config, MODEL, TARGETS, data).warnings
    assert warning.startswith(
        "phase two: no record of input covariance lies beside somewhere/checkpoint; preserve.data must"
    )
    assert plan_of(config, MODEL, TARGETS, data, ["preserve.data", "one"]).warnings == []


def test_sft_leaves_no_record_of_inputs() -> None:
    config = experiment(one=phase(), two=phase(method="sft"), three=phase())
    config.osft.subspace = "activations"
    assert kept(config) == {"one": "preserve.data", "two": None, "three": "preserve.data"}
    data = {name: DataSummary(f"{name}.jsonl", samples=8) for name in config.phases}
    (warning,) = plan_of(config, MODEL, TARGETS, data).warnings
    assert warning.startswith("phase three: follows two, an sft phase")


def test_by_activations_the_input_directions_are_counted() -> None:
    """Ratio 0.3: 3 of 10 input directions for 20 outputs, 6 of 20 for 10 outputs."""
    config = experiment(one=phase())
    config.osft.subspace = "activations"
    assert planned(config)["one"].trainable_parameters == 20 * 3 + 10 * 6
