"""The search space: how Hydra's sweep overrides become Optuna's distributions, and drawn values overrides."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from osftx.errors import ConfigurationError
from osftx.sweep.optuna.space import Parameter, grid, parameters


def space(*words: str) -> list[Parameter]:
    return parameters({word.get_key_element(): word for word in OverridesParser.create().parse_overrides(list(words))})


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("x=interval(0.1,0.4)", "FloatDistribution(high=0.4, log=False, low=0.1, step=None)"),
        ("x=tag(log,interval(1e-5,1e-2))", "FloatDistribution(high=0.01, log=True, low=1e-05, step=None)"),
        ("x=int(interval(1,8))", "IntDistribution(high=8, log=False, low=1, step=1)"),
        ("x=tag(log,int(interval(1,100)))", "IntDistribution(high=100, log=True, low=1, step=1)"),
        ("x=range(1,8,3)", "IntDistribution(high=7, log=False, low=1, step=3)"),
        ("x=range(8,1,-3)", "IntDistribution(high=8, log=False, low=2, step=3)"),
        ("x=range(0.25,1.1,0.25)", "FloatDistribution(high=1.0, log=False, low=0.25, step=0.25)"),
        ("x=a,b,c", "CategoricalDistribution(choices=('a', 'b', 'c'))"),
        ("x=choice(1,2.5)", "CategoricalDistribution(choices=('1', '2.5'))"),
        ("phase_order=[a,b],[b,a]", "CategoricalDistribution(choices=('[a,b]', '[b,a]'))"),
    ],
)
def test_the_search_space_is_written_as_hydras_sweeps(word: str, expected: str) -> None:
    (parameter,) = space(word, "training.seed=1")
    assert repr(parameter.distribution) == expected


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("x=interval(2,1)", "the interval is empty"),
        ("x=tag(log,interval(0,1))", "must begin above 0"),
        ("x=tag(lg,interval(1,2))", "unknown tag lg; the one tag is log"),
        ("x=tag(log,choice(1,2))", "log is for an interval"),
        ("x=tag(log,range(1,9,2))", "log goes with a step of 1"),
        ("x=range(3,1)", "the range is empty"),
        ("x=1", "nothing to search over"),
    ],
)
def test_a_space_that_is_none_is_refused(word: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        space(word)
    assert len(error.value.problems) == 1
    assert says in error.value.problems[0]


def test_overrides_have_no_binary_rounding_of_a_step() -> None:
    (parameter,) = space("x=range(0.1,0.75,0.1)")
    assert [parameter.override(point) for point in parameter.points() or []] == [f"x=0.{n}" for n in range(1, 8)]
    (parameter,) = space("x='a b','c=d'")
    assert parameter.override(parameter.points()[1]) == "x='c=d'"  # type: ignore[index]


def test_every_point_of_a_grid() -> None:
    points = list(grid(space("a=1,2", "b=range(0,3)")))
    assert points == [{"a": a, "b": b} for a in ("1", "2") for b in (0, 1, 2)]
