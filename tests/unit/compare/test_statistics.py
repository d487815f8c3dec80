import math

import pytest

from osftx.compare.statistics import Estimate, estimate, paired_difference


def test_interval_of_known_numbers() -> None:
    """Gosset's sleep data (1908), the difference of two drugs for ten people: mean 1.58, 95% interval 0.70 to 2.46."""
    extra = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    found = estimate(extra)
    assert found is not None and found.half_width is not None
    assert found.mean == pytest.approx(1.58)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((0.70, 2.46), abs=0.005)
    assert found.excludes_zero


def test_three_seeds_have_a_wide_interval() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found is not None
    assert found.half_width == pytest.approx(4.303 / math.sqrt(3))
    assert not found.excludes_zero


def test_more_than_thirty_degrees_of_freedom_are_no_error() -> None:
    found = estimate([0.0, 1.0] * 50)
    assert found is not None
    assert found.half_width == pytest.approx(1.984 * 0.50252 / 10, rel=0.04)


def test_one_value_has_no_interval_and_excludes_nothing() -> None:
    assert estimate([0.5]) == Estimate(0.5, None, 1)
    assert not Estimate(0.5, None, 1).excludes_zero
    assert estimate([]) is None


def test_equal_values_make_nothing_certain() -> None:
    assert estimate([0.025, 0.025, 0.025]) == Estimate(0.025, None, 3)


def test_pairs_take_out_what_a_seed_does_to_both() -> None:
    reference = {(42,): 0.1, (43,): 0.5, (44,): 0.9}
    values = {(44,): 1.0, (42,): 0.21, (43,): 0.6, (45,): 0.0}
    found = paired_difference(values, reference)
    assert found is not None and found.half_width is not None
    assert (found.mean, found.count) == (pytest.approx(0.31 / 3), 3)
    assert found.half_width < 0.02  # unpaired it would be about 1
    assert found.excludes_zero


def test_without_a_common_seed_there_is_no_interval() -> None:
    assert paired_difference({(1,): 0.5, (2,): 0.7}, {(3,): 0.1}) == Estimate(0.5, None, 0)
    assert paired_difference({}, {(3,): 0.1}) is None


def test_rounding_is_no_difference() -> None:
    found = paired_difference({(1,): 0.1 + 0.2, (2,): 0.3}, {(1,): 0.3, (2,): 0.1 + 0.2})
    assert found == Estimate(0.0, None, 2)
    assert not found.excludes_zero
