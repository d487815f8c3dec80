"""The phases of a run from the configuration alone: ratios, and who keeps to which records."""

from typing import Any

import pytest

from osftx.config.schema import ExperimentConfig, ModelConfig, PhaseConfig, TrainingConfig
from osftx.methods.registry import method_named
from osftx.planning.outline import by_method, outline, with_records


def experiment(**phases: dict[str, Any]) -> ExperimentConfig:
    """Phases with their interpolations resolved, and with these settings."""
    training = vars(TrainingConfig())
    made = {name: PhaseConfig(**(training | settings)) for name, settings in phases.items()}
    return ExperimentConfig(name="study", model=ModelConfig(path="base"), phases=made)


def ratios(**phases: dict[str, Any]) -> dict[str, float | None]:
    return {phase.name: phase.ratio for phase in outline(experiment(**phases))}


def test_sft_has_no_ratio_and_does_not_advance_the_schedule() -> None:
    assert ratios(a={}, baseline={"method": "sft"}, b={}) == {"a": 0.3, "baseline": None, "b": 0.2}


def test_a_ratio_on_a_phase_wins_and_advances_the_schedule() -> None:
    assert ratios(a={"unfreeze_rank_ratio": 0.0}, b={}) == {"a": 0.0, "b": 0.2}


def test_skipped_phases_advance_the_schedule() -> None:
    assert ratios(a={}, b={"init_from": "earlier/checkpoint"}, c={}) == {"b": 0.2, "c": 0.1}


def test_a_phase_has_its_place_method_and_settings() -> None:
    config = experiment(a={}, b={"init_from": "there", "method": "sft", "learning_rate": 1e-4}, c={})
    one, two = outline(config)
    assert (one.index, one.name, one.method) == (1, "b", method_named("sft"))
    assert (two.index, two.name, two.method) == (2, "c", method_named("osft"))
    assert one.config is config.phases["b"]
    assert (one.training.learning_rate, two.training.learning_rate) == (1e-4, 5e-6)


def test_the_order_of_the_phases_decides() -> None:
    config = experiment(a={}, b={"method": "sft"}, c={})
    config.phase_order = ["c", "b", "a"]
    assert [(phase.index, phase.name, phase.ratio) for phase in outline(config)] == [
        (0, "c", 0.3),
        (1, "b", None),
        (2, "a", 0.2),
    ]


def test_phases_by_their_method() -> None:
    found = by_method(outline(experiment(a={"method": "sft"}, b={}, c={"method": "sft"})))
    assert {method.name: [phase.name for phase in own] for method, own in found.items()} == {
        "sft": ["a", "c"],
        "osft": ["b"],
    }


@pytest.mark.parametrize(
    ("subspace", "methods", "found", "keeps"),
    [
        ("weights", ["osft", "osft"], [], [None, None]),
        ("activations", ["osft", "osft"], [], [["preserve.data"], ["preserve.data", "0"]]),
        (
            "activations",
            ["osft", "osft"],
            ["preserve.data", "z"],
            [["preserve.data", "z"], ["preserve.data", "z", "0"]],
        ),
        ("activations", ["osft", "sft", "osft"], [], [["preserve.data"], None, ["preserve.data"]]),
        ("activations", ["sft", "osft"], ["preserve.data", "z"], [None, ["preserve.data"]]),
    ],
)
def test_a_phase_keeps_to_what_was_handed_on_and_adds_its_own(
    subspace: str, methods: list[str], found: list[str], keeps: list[list[str] | None]
) -> None:
    config = experiment(**{str(place): {"method": method} for place, method in enumerate(methods)})
    config.osft.subspace = subspace
    chained = with_records(config, outline(config), found)
    assert [phase.keeps for phase in chained] == keeps
    assert [phase.leaves for phase in chained] == [
        [*kept, phase.name] if kept is not None else [] for phase, kept in zip(chained, keeps, strict=True)
    ]
