"""Finds every problem of a configuration that shows without reading a file: general rules, then those of methods."""

from collections.abc import Iterator

from osftx.config import validate
from osftx.config.schema import ExperimentConfig, ScheduleKind
from osftx.config.validate.ranges import RATIO
from osftx.errors import ConfigurationError
from osftx.methods.base import Method
from osftx.methods.registry import built_in, method_named


def problems(config: ExperimentConfig) -> list[str]:
    """Returns one line for each problem: `path=value: what is wrong; the remedy`. Empty if there is none."""
    return [*validate.problems(config), *_methods(config)]


def _methods(config: ExperimentConfig) -> Iterator[str]:
    methods: dict[str, Method] = {}
    for name, phase in config.phases.items():
        try:
            methods[name] = method_named(phase.method)
        except ConfigurationError as error:
            yield from (f"phases.{name}.{problem}" for problem in error.problems)
    for method in dict.fromkeys([*built_in(), *methods.values()]):
        yield from method.problems(config)
    for name, method in methods.items():
        yield from method.phase_problems(f"phases.{name}", config.phases[name])
    yield from _explicit_ratios(config, sum(method.takes_ratio for method in methods.values()))


def _explicit_ratios(config: ExperimentConfig, count: int) -> Iterator[str]:
    kind, ratios = config.schedule.kind, config.schedule.ratios
    path = f"schedule.ratios={ratios}"
    if kind is not ScheduleKind.explicit:
        return
    if len(ratios) != count:
        yield f"{path}: {len(ratios)} for {count} phases with a ratio; give {count}, in the order of the phases"
    if not all(RATIO.allows(ratio) for ratio in ratios):
        yield f"{path}: each must be {RATIO.words}; correct those outside"
