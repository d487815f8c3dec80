"""What cannot become typed objects is named; unknown keys are tried on the command line (integration/test_cli.py)."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from osftx.config.load import typed
from osftx.config.schema import DataConfig, DataFormat, ExperimentConfig, PhaseConfig
from osftx.errors import ConfigurationError


def composed(key: str, value: Any) -> DictConfig:
    """A configuration of one phase with one change."""
    config = OmegaConf.structured(ExperimentConfig(phases={"first": PhaseConfig(data=DataConfig("first.jsonl"))}))
    OmegaConf.update(config, key, value)
    return config


def test_a_missing_number_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"Missing mandatory value: training\.learning_rate"):
        typed(composed("training.learning_rate", "???"))


def test_an_unresolvable_interpolation_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"phases\.first\.learning_rate: Interpolation key"):
        typed(composed("phases.first.learning_rate", "${training.learning_rates}"))


def test_settings_of_a_source_of_replay_are_typed() -> None:
    config = composed("phases.first.replay.sources", ["zero", {"path": "a.jsonl", "format": "documents"}])
    named, other = typed(config).phases["first"].replay.sources
    assert (named, other) == ("zero", DataConfig(path="a.jsonl", format=DataFormat.documents))


@pytest.mark.parametrize("wrong", [{"pth": "a.jsonl"}, {"path": "a", "limit": "many"}, {"path": "a", "format": "csv"}])
def test_settings_of_a_source_of_replay_that_are_wrong(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        typed(composed("phases.first.replay.sources", [wrong]))
    (problem,) = caught.value.problems
    assert problem.startswith(f"phases.first.replay.sources={wrong}: ")
    assert problem.endswith("; the keys are " + ", ".join(DataConfig.__dataclass_fields__))


def test_typed_leaves_the_composed_configuration_alone() -> None:
    config = OmegaConf.structured(ExperimentConfig())
    typed(config)
    assert OmegaConf.is_missing(config, "name")
