"""Which evaluation set asks what was taught before a phase."""

from osftx.config.phases import sets_to_keep, taught_in
from osftx.config.schema import DataConfig, EvaluationSetConfig, ExperimentConfig, PhaseConfig


def experiment() -> ExperimentConfig:
    """Two phases in another order than that in which they are named, and a set of each kind."""
    config = ExperimentConfig(name="study", phase_order=["two", "one"])
    config.phases = {name: PhaseConfig(data=DataConfig(f"{name}.jsonl")) for name in ("one", "two")}
    config.evaluation.sets = {
        "one": EvaluationSetConfig(path="one.jsonl"),
        "general": EvaluationSetConfig(path="general.jsonl"),
        "other": EvaluationSetConfig(path="other.jsonl", learned_in="two"),
    }
    return config


def test_a_set_is_taught_by_the_phase_that_it_names_or_that_has_its_name() -> None:
    config = experiment()
    assert [taught_in(config, name) for name in config.evaluation.sets] == ["one", "base", "two"]


def test_before_a_phase_is_what_the_base_and_earlier_phases_teach() -> None:
    config = experiment()
    assert sets_to_keep(config, "two") == ["general"]
    assert sets_to_keep(config, "one") == ["general", "other"]
    assert sets_to_keep(config, None) == ["one", "general", "other"]


def test_a_phase_that_is_skipped_has_taught_its_sets_before() -> None:
    config = experiment()
    config.phases["one"].init_from = "earlier/checkpoint"
    assert sets_to_keep(config, "one") == ["general", "other"]
