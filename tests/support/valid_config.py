"""A valid configuration of two phases, and what becomes of it after changes."""

from typing import Any

from omegaconf import OmegaConf

from osftx.config.load import typed
from osftx.config.schema import DataConfig, ExperimentConfig, ModelConfig, PhaseConfig


def experiment() -> ExperimentConfig:
    """As Hydra composes it: phases follow `training` by interpolation."""
    config = ExperimentConfig(name="study", model=ModelConfig(path="base"))
    config.phases = {name: PhaseConfig(data=DataConfig(path=f"{name}.jsonl")) for name in ("first", "second")}
    return config


def changed(**changes: Any) -> ExperimentConfig:
    """The valid configuration after `changes`, whose keys are paths with `__` for dots."""
    composed = OmegaConf.structured(experiment())
    for key, value in changes.items():
        OmegaConf.update(composed, key.replace("__", "."), value)
    return typed(composed)
