"""The statistics behind the figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import interval_of_median, median, percentile, quantiles, slope

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def test_the_99th_percentile_of_a_hundred_values_is_the_second_largest() -> None:
    assert percentile(list(range(1, 101)), 99) == 99


def test_the_percentiles_at_both_ends_are_the_smallest_and_the_largest() -> None:
    assert percentile([3, 1, 2], 0) == 1
    assert percentile([3, 1, 2], 100) == 3


@given(VALUES, st.floats(0, 100))
def test_a_percentile_is_a_value_that_was_seen_and_covers_its_share(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_percent_outside_of_0_to_100_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="not between"):
        percentile([1], percent)


def test_no_values_have_no_percentile_and_no_interval() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    with pytest.raises(ValueError, match="no values"):
        interval_of_median([])


@given(VALUES)
def test_quantiles_rise_from_the_smallest_to_the_largest(values: list[float]) -> None:
    found = quantiles(values)
    assert len(found) == 101
    assert found == sorted(found)
    assert (found[0], found[-1]) == (min(values), max(values))


@given(VALUES)
def test_the_interval_holds_the_median_and_is_the_same_each_time(values: list[float]) -> None:
    found = interval_of_median(values, resamples=50)
    assert min(values) <= found.low <= found.high <= max(values)
    assert found.median == median(values)
    assert found == interval_of_median(values, resamples=50)


def test_more_rounds_make_the_interval_narrower() -> None:
    few, many = [0.0, 1.0, 2.0] * 3, [0.0, 1.0, 2.0] * 300
    narrow, wide = interval_of_median(many), interval_of_median(few)
    assert narrow.high - narrow.low < wide.high - wide.low


def test_one_disturbed_point_does_not_move_the_slope() -> None:
    points = [(float(x), 40.0 * x) for x in range(0, 250, 25)]
    points[4] = (100.0, 99_999.0)
    assert slope(points) == pytest.approx(40)


def test_points_that_do_not_differ_have_no_slope() -> None:
    with pytest.raises(ValueError, match="differ"):
        slope([(1, 1), (1, 2)])
