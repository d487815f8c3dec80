import pytest

from osftx.compare.matched import Point, at_level, common_level, highest, mean_curve


def curve(*states: tuple[int, float, float]) -> list[Point]:
    return [Point(step, learning, {"all": kept}) for step, learning, kept in states]


RISING = curve((0, 0.0, 1.0), (10, 0.4, 0.8), (30, 0.8, 0.2))


@pytest.mark.parametrize(
    ("level", "step", "kept"),
    [(0.4, 10, 0.8), (0.2, 5, 0.9), (0.6, 20, 0.5), (0.8, 30, 0.2)],
)
def test_between_two_states_it_is_linear(level: float, step: float, kept: float) -> None:
    point = at_level(RISING, level)
    assert point is not None
    assert (point.step, point.learning, point.kept["all"]) == pytest.approx((step, level, kept))


def test_the_first_time_counts() -> None:
    """Learning falls and rises again: what was lost afterwards is not the price of the level."""
    point = at_level(curve((0, 0.0, 1.0), (10, 0.6, 0.7), (20, 0.1, 0.5), (30, 0.9, 0.0)), 0.6)
    assert point is not None
    assert (point.step, point.kept["all"]) == (10, 0.7)


def test_a_level_that_was_known_before_is_reached_at_the_start() -> None:
    point = at_level(curve((0, 0.5, 0.9), (10, 0.8, 0.1)), 0.3)
    assert point is not None
    assert (point.step, point.learning, point.kept["all"]) == (0, 0.5, 0.9)


def test_a_level_is_reached_up_to_rounding_only() -> None:
    assert at_level(RISING, 0.8 + 1e-12) is not None
    assert at_level(RISING, 0.801) is None


def test_a_curve_that_stands_still_divides_by_nothing() -> None:
    point = at_level(curve((0, 0.2, 1.0), (10, 0.2, 0.9), (20, 0.4, 0.5)), 0.3)
    assert point is not None
    assert (point.step, point.kept["all"]) == pytest.approx((15, 0.7))


def test_the_level_is_what_every_curve_reaches() -> None:
    falls_back = curve((0, 0.0, 1.0), (10, 0.7, 0.5), (20, 0.3, 0.5))
    assert highest(falls_back) == 0.7
    assert common_level([RISING, falls_back]) == 0.7


def test_the_mean_curve_ends_where_the_first_one_does() -> None:
    line = mean_curve([RISING, curve((0, 0.2, 0.0), (10, 0.6, 0.4))], "all", count=3)
    assert line == [
        (pytest.approx(0.2), pytest.approx(0.45)),
        (pytest.approx(0.4), pytest.approx(0.5)),
        (pytest.approx(0.6), pytest.approx(0.45)),
    ]


def test_curves_without_a_common_level_have_no_mean() -> None:
    assert mean_curve([RISING, curve((0, 0.9, 1.0), (10, 1.0, 1.0))], "all") == []
