"""Converts the configuration that Hydra composed into the typed objects that all other code works with."""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from osftx.config.schema import DataConfig, ExperimentConfig
from osftx.errors import ConfigurationError


def typed(composed: DictConfig) -> ExperimentConfig:
    """Returns the composed configuration as typed objects.

    Missing strings become empty, so that `validate.problems` reports them together with all other problems. Raises
    ConfigurationError if OmegaConf cannot resolve or convert a value, or if there is an unknown key.
    """
    completed = deepcopy(composed)
    try:
        for key in OmegaConf.missing_keys(composed):
            with suppress(ValidationError):  # a missing number cannot be filled in; to_object reports it below
                OmegaConf.update(completed, key, "")
        config = OmegaConf.to_object(completed)
    except OmegaConfBaseException as error:
        raise ConfigurationError([f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}"]) from error
    assert isinstance(config, ExperimentConfig)
    if unknown := list(_unknown_keys(config)):
        raise ConfigurationError(unknown)
    for name, phase in config.phases.items():
        path = f"phases.{name}.replay.sources"
        phase.replay.sources = [_source(path, source) for source in phase.replay.sources]
    return config


def _source(path: str, source: Any) -> Any:
    """Returns a replay source with its type, because OmegaConf does not type the entries of the list.

    A source that is no mapping is returned unchanged. Raises ConfigurationError for wrong keys or types.
    """
    if not isinstance(source, dict):
        return source
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig(path="")), source))
    except OmegaConfBaseException as error:
        known = ", ".join(field.name for field in fields(DataConfig))
        reason = str(error).splitlines()[0]
        raise ConfigurationError([f"{path}={source}: {reason}; the keys are {known}"]) from error


def _unknown_keys(settings: Any, path: str = "") -> Iterator[str]:
    """Yields a problem for each key that `+KEY=VALUE` added outside the schema.

    OmegaConf accepts such keys, but nothing would ever read them.
    """
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield from _unknown_keys(value, f"{path}{name}.")
    elif is_dataclass(settings):
        known = [field.name for field in fields(settings)]
        for key, value in vars(settings).items():
            if key in known:
                yield from _unknown_keys(value, f"{path}{key}.")
            else:
                yield f"{path}{key}={value}: no such key; remove it, or use one of {', '.join(known)}"
