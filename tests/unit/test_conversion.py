"""What cannot become typed objects is named; unknown keys are tried on the command line (integration/test_cli.py)."""

import pytest
from omegaconf import DictConfig, OmegaConf

from osftx.config import DataConfig, ExperimentConfig, PhaseConfig
from osftx.conversion import typed
from osftx.errors import ConfigurationError


def composed(key: str, value: str) -> DictConfig:
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


def test_typed_leaves_the_composed_configuration_alone() -> None:
    config = OmegaConf.structured(ExperimentConfig())
    typed(config)
    assert OmegaConf.is_missing(config, "name")
