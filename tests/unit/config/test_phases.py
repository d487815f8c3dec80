"""Which phases run, from which model, with which settings."""

from typing import Any

from osftx.config.phases import evaluation_budget, phases_to_run, sets_to_keep, start_model, taught_in, training_of
from osftx.config.schema import (
    DataConfig,
    EvaluationSetConfig,
    ExperimentConfig,
    ModelConfig,
    PhaseConfig,
    Precision,
    TrainingConfig,
)


def phase(**settings: Any) -> PhaseConfig:
    """A phase with its interpolations resolved."""
    return PhaseConfig(**(vars(TrainingConfig(num_epochs=2, effective_batch_size=8)) | settings))


def experiment(**phases: PhaseConfig) -> ExperimentConfig:
    return ExperimentConfig(name="study", model=ModelConfig(path="base-model", revision="v2"), phases=phases)


def test_a_run_starts_from_its_model_or_from_what_a_phase_names() -> None:
    config = experiment(one=phase(), two=phase(init_from="earlier/checkpoint"), three=phase())
    assert start_model(config) == ("earlier/checkpoint", None)
    assert start_model(experiment(one=phase())) == ("base-model", "v2")


def test_init_from_follows_phase_order() -> None:
    config = experiment(one=phase(init_from="there"), two=phase(), three=phase())
    config.phase_order = ["three", "one", "two"]
    assert [(index, name) for index, name, _ in phases_to_run(config)] == [(1, "one"), (2, "two")]


def test_training_settings_of_a_phase_are_its_own() -> None:
    one = phase(learning_rate=3e-4, data=DataConfig(path="one.jsonl"), unfreeze_rank_ratio=0.2)
    settings = training_of(experiment(one=one), "one")
    assert settings == TrainingConfig(num_epochs=2, effective_batch_size=8, learning_rate=3e-4)


def test_every_phase_but_the_last_saves_what_it_hands_on() -> None:
    config = experiment(one=phase(), two=phase(), three=phase(hand_on_dtype=Precision.bfloat16))
    config.phase_order = ["three", "two", "one"]
    saved = {name: training_of(config, name).save_dtype.value for name in config.phases}
    assert saved == {"three": "bfloat16", "two": "float32", "one": "bfloat16"}


def test_the_evaluation_does_not_depend_on_a_phase() -> None:
    config = experiment(one=phase(max_seq_len=16, max_tokens_per_gpu=32))
    config.training.max_seq_len, config.training.max_tokens_per_gpu = 128, 512
    assert evaluation_budget(config) == (128, 512)


def test_what_a_set_asks_is_taught_in_the_phase_that_it_names_or_that_has_its_name_or_in_none() -> None:
    config = experiment(one=phase(), two=phase())
    config.evaluation.sets = {
        "one": EvaluationSetConfig(path="a"),
        "general": EvaluationSetConfig(path="b"),
        "facts": EvaluationSetConfig(path="c", learned_in="two"),
        "two": EvaluationSetConfig(path="d", learned_in="base"),
    }
    assert {name: taught_in(config, name) for name in config.evaluation.sets} == {
        "one": "one",
        "general": "base",
        "facts": "two",
        "two": "base",
    }
    assert sets_to_keep(config, "one") == ["general", "two"]
    assert sets_to_keep(config, "two") == ["one", "general", "two"]


def two_phases() -> ExperimentConfig:
    """Two phases in another order than that in which they are named, and a set of each kind."""
    config = experiment(one=phase(), two=phase())
    config.phase_order = ["two", "one"]
    config.evaluation.sets = {
        "one": EvaluationSetConfig(path="one.jsonl"),
        "general": EvaluationSetConfig(path="general.jsonl"),
        "other": EvaluationSetConfig(path="other.jsonl", learned_in="two"),
    }
    return config


def test_before_a_phase_is_what_the_base_and_earlier_phases_teach() -> None:
    config = two_phases()
    assert sets_to_keep(config, "two") == ["general"]
    assert sets_to_keep(config, "one") == ["general", "other"]
    assert sets_to_keep(config, None) == ["one", "general", "other"]


def test_a_phase_that_is_skipped_has_taught_its_sets_before() -> None:
    config = two_phases()
    config.phases["one"].init_from = "earlier/checkpoint"
    assert sets_to_keep(config, "one") == ["general", "other"]
