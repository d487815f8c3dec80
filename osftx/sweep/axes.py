"""Checks of what a sweep varies: Hydra takes axes that it cannot follow, and then runs other jobs than were meant."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from osftx.sweep.words import repeated_keys

OF_THE_SWEEP = ("sweeper", "launcher", "sweep")
"""Sections of `hydra` that Hydra reads once, before the first job."""


def axis_problems(config: DictConfig) -> list[str]:
    """Returns what a sweep cannot vary in the way that is asked for. `config` is Hydra's configuration of the sweep."""
    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    parser = OverridesParser.create(config_loader=loader)
    written = [f"{key}={value}" for key, value in (OmegaConf.select(config, "hydra.sweeper.params") or {}).items()]
    try:
        given = parser.parse_overrides(list(config.hydra.overrides.task))
        params = parser.parse_overrides(written)
    except HydraException:  # Hydra itself reports it, with the place
        return []
    return [
        *repeated_keys(written),
        *_twice(given, params),
        *(problem for override in (*params, *given) for problem in _same_values(override)),
        *(problem for override in given for problem in _lost_settings(override, given, config, loader)),
    ]


def _twice(given: Sequence[Override], params: Sequence[Override]) -> Iterator[str]:
    """Yields a problem for each key that is varied and given another time, of which one would be lost."""
    ways = {override.get_key_element() for override in given}
    places = Counter(_bare(override) for override in given)
    for override in params:  # one that is written alike gives way to the command line, as is documented
        if override.get_key_element() not in ways:
            places[_bare(override)] += 1
    for key, count in places.items():
        same = [override for override in (*given, *params) if _bare(override) == key]
        if count > 1 and any(override.is_sweep_override() for override in same):
            words = ", ".join(str(override.input_line) for override in same)
            yield f"{key}: is varied and given more than once ({words}); write it once"


def _same_values(override: Override) -> Iterator[str]:
    """Yields a problem if an axis has one value twice, which would be two jobs that are the same."""
    if override.is_discrete_sweep():
        ways: dict[str, list[str]] = {}
        for text in override.sweep_string_iterator():
            ways.setdefault(_comparable(text), []).append(text)
        for same in (texts for texts in ways.values() if len(texts) > 1):
            yield f"{override.input_line}: {' and '.join(same)} would be jobs that are the same; name the value once"


def _lost_settings(
    override: Override, given: Sequence[Override], config: DictConfig, loader: ConfigLoader | None
) -> Iterator[str]:
    """Yields a problem for each option of a varied group that has settings of the sweep, which no job would follow."""
    if loader is None or not override.is_choice_sweep() or not loader.get_group_options(override.key_or_group):
        return
    others = [str(one.input_line) for one in given if not one.is_sweep_override()]
    for option in override.sweep_string_iterator():
        try:
            job = loader.load_sweep_config(config, [*others, f"{override.get_key_element()}={option}"])
        except (HydraException, OmegaConfBaseException):  # the job itself reports it
            continue
        for section in OF_THE_SWEEP:
            if _plain(job.hydra[section]) != _plain(config.hydra[section]):
                every = ",".join(override.sweep_string_iterator())
                yield (
                    f"{override.input_line}: {option} sets hydra.{section}, which no job can follow; choose one, or "
                    f"write {override.get_key_element()}=[{every}] to vary what all of them vary"
                )


def _bare(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _plain(section: Any) -> Mapping[str, Any]:
    return dict(OmegaConf.to_container(section, resolve=False))  # type: ignore[arg-type]


def _comparable(text: str) -> str:
    """Returns the value in one way of writing: 1e-5 and 0.00001 are the same."""
    try:
        return f"{float(text):.17g}"
    except ValueError:
        return text
