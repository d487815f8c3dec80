"""Checks of what a sweep varies: Hydra takes axes that it cannot follow, and then runs other jobs than were meant."""

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
Path = tuple[str, ...]


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
        *_twice(given, params, loader),
        *(problem for override in (*params, *given) for problem in _same_values(override)),
        *(problem for override in given for problem in _lost_settings(override, given, config, loader)),
    ]


def _twice(given: Sequence[Override], params: Sequence[Override], loader: ConfigLoader | None) -> Iterator[str]:
    """Yields a problem for each key that is varied and given another time, of which one would be lost.

    A key is also given by what it is a part of, and by what is a part of it.
    """
    ways = {override.get_key_element() for override in given}
    # One of `params` that is written alike gives way to the command line, as is documented.
    counting = [*given, *(override for override in params if override.get_key_element() not in ways)]
    paths = [_paths(override, loader) for override in counting]
    told = set()
    for place, varied in enumerate(counting):
        same = tuple(other for other in range(len(counting)) if other == place or _meet(paths[place], paths[other]))
        if varied.is_sweep_override() and len(same) > 1 and same not in told:
            told.add(same)
            words = ", ".join(str(counting[other].input_line) for other in same)
            yield f"{_bare(varied)}: is varied and given more than once ({words}); write it once"


def _paths(override: Override, loader: ConfigLoader | None) -> set[Path]:
    """Returns the full paths of the settings that an override gives; those of a dictionary are merged one by one."""
    key = _bare(override)
    if "/" in key or "@" in key or (loader is not None and loader.get_group_options(key)):
        return {(key,)}  # a group, which comes before all settings
    start = tuple(key.replace("[", ".").replace("]", "").split("."))
    return {path for value in _values(override) for path in _leaves(start, value)}


def _leaves(place: Path, value: Any) -> Iterator[Path]:
    if not isinstance(value, dict) or not value:
        yield place
        return
    for key, inner in value.items():
        yield from _leaves((*place, str(key)), inner)


def _meet(some: set[Path], others: set[Path]) -> bool:
    return any(one[: len(other)] == other[: len(one)] for one in some for other in others)


def _values(override: Override) -> list[Any]:
    """Returns the values of an override without quotes; for an interval a value that stands for all."""
    if override.is_discrete_sweep():
        parser = OverridesParser.create()
        return [parser.parse_override(f"value={text}").value() for text in override.sweep_string_iterator()]
    return [None if override.is_sweep_override() else override.value()]


def _same_values(override: Override) -> Iterator[str]:
    """Yields a problem if an axis has one value twice, which would be two jobs that are the same."""
    if override.is_discrete_sweep():
        ways: dict[str, list[str]] = {}
        for text, value in zip(override.sweep_string_iterator(), _values(override), strict=True):
            ways.setdefault(_comparable(value), []).append(text)
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


def _comparable(value: Any) -> str:
    """Returns a value in one way of writing: 1e-5 and 0.00001 are the same, and so are x and "x"."""
    if isinstance(value, dict):
        return f"{{{','.join(sorted(f'{key}:{_comparable(inner)}' for key, inner in value.items()))}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_comparable, value))}]"
    if value is None:
        return "?"  # not the text null
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text.lstrip("+-").isdecimal():
        return str(int(text))
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else repr(number)
