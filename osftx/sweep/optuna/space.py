"""The search space: Hydra's sweep overrides as Optuna's distributions, and drawn values as overrides of a job."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from osftx.errors import ConfigurationError

LOG = "log"
"""The only supported tag: `tag(log, interval(1e-5,1e-2))` draws on a logarithmic scale."""


@dataclass(frozen=True)
class Parameter:
    """A key that the search varies."""

    key: str
    """Key as written in the override, with `+` and package."""
    text: str
    """Text after the `=` of the override."""
    distribution: BaseDistribution

    def override(self, value: Any) -> str:
        """Returns the override that gives a job this value."""
        stepped = isinstance(self.distribution, FloatDistribution) and self.distribution.step is not None
        return f"{self.key}={_rounded(value) if stepped else value}"

    def points(self) -> list[Any] | None:
        """Returns all values that the parameter can take, or None for an interval of real numbers."""
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return list(distribution.choices)
        if isinstance(distribution, IntDistribution):
            return list(range(distribution.low, distribution.high + 1, distribution.step))
        assert isinstance(distribution, FloatDistribution)
        if distribution.step is None:
            return None
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [distribution.low + place * distribution.step for place in range(count)]


def parameters(overrides: dict[str, Override]) -> list[Parameter]:
    """Returns the keys with several values. Raises ConfigurationError with every problem of the search space."""
    found, problems = [], []
    for key, override in overrides.items():
        if override.is_sweep_override():
            try:
                found.append(Parameter(key, override.get_value_string(), _distribution(override)))
            except ValueError as error:
                problems.append(f"{override.input_line}: {error}")
    if not found and not problems:
        problems.append(
            "hydra.sweeper.params: nothing to search over; give a key several values, such as "
            "'schedule.initial=interval(0.1,0.4)' or training.num_epochs=1,2,3"
        )
    if problems:
        raise ConfigurationError(problems)
    return found


def grid(searched: list[Parameter]) -> Iterator[dict[str, Any]]:
    """Yields every combination of the values, by key. All parameters must have `points`."""
    for values in product(*(parameter.points() or [] for parameter in searched)):
        yield {parameter.key: value for parameter, value in zip(searched, values, strict=True)}


def _distribution(override: Override) -> BaseDistribution:
    """Returns Optuna's distribution for a sweep override. Raises ValueError with the problem and the remedy."""
    sweep = override.value()
    tags: set[str] = getattr(sweep, "tags", set())
    if unknown := sorted(tags - {LOG}):
        raise ValueError(f"unknown tag {', '.join(unknown)}; the one tag is {LOG}")
    log = LOG in tags
    if isinstance(sweep, IntervalSweep):
        return _interval(sweep, log)
    if isinstance(sweep, RangeSweep):
        return _range(sweep, log)
    if log:
        raise ValueError("log is for an interval or a range of whole numbers; leave the tag out")
    assert isinstance(sweep, ChoiceSweep) or override.is_discrete_sweep()
    choices = list(dict.fromkeys(override.sweep_string_iterator()))
    if not choices:
        raise ValueError("no choice; give at least one value")
    return CategoricalDistribution(choices)


def _interval(sweep: IntervalSweep, log: bool) -> BaseDistribution:
    low, high = sweep.start, sweep.end
    assert low is not None and high is not None
    if not low < high:
        raise ValueError(f"the interval is empty; its first number must be below the second ({low:g}, {high:g})")
    _check_log(log, low)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _range(sweep: RangeSweep, log: bool) -> BaseDistribution:
    values = sorted(sweep.range())
    if not values:
        raise ValueError("the range is empty; as in Python it ends before its second number")
    low, high, step = values[0], values[-1], abs(sweep.step)
    _check_log(log, low)
    if all(isinstance(value, int) for value in values):
        if log and step != 1:
            raise ValueError("log goes with a step of 1; leave the tag or the step out")
        return IntDistribution(int(low), int(high), log=log, step=int(step))
    if log:
        raise ValueError("log is for an interval or a range of whole numbers; write tag(log, interval(..))")
    return FloatDistribution(_rounded(low), _rounded(high), step=_rounded(step))


def _rounded(number: float) -> float:
    """Returns the number without the binary rounding error of summed steps: 0.30000000000000004 becomes 0.3."""
    return float(f"{number:.12g}")


def _check_log(log: bool, low: float) -> None:
    if log and low <= 0:
        raise ValueError(f"a logarithmic scale must begin above 0, not at {low:g}; raise it, or leave the tag out")
