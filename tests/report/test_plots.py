import itertools
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corpusmith.report.plots import MOST_POINTS, make_axis, make_curve

numbers = st.floats(-1e9, 1e9).map(lambda value: round(value, 6))


@given(st.lists(numbers, min_size=1))
@example([0.2])  # its last tick is the end of the axis but for rounding
def test_an_axis_holds_every_value_and_its_ticks_in_order(values):
    axis = make_axis(values)
    assert axis.low < min(values) <= max(values) < axis.high
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert all(first < second for first, second in itertools.pairwise(axis.ticks))
    assert 1 <= len(axis.ticks) <= 6
    assert all(0 <= axis.at(value) <= 100 for value in values)


@given(st.lists(numbers, min_size=1))
def test_no_two_ticks_have_the_same_label(values):
    axis = make_axis(values)
    labels = [axis.label(tick) for tick in axis.ticks]
    assert len(set(labels)) == len(labels)


def test_labels_have_as_many_digits_as_they_need():
    axis = make_axis([0, 0.1])
    assert [axis.label(tick) for tick in axis.ticks] == ["0.000", "0.025", "0.050", "0.075", "0.100"]
    axis = make_axis([0, 1200], 6)
    assert [axis.label(tick) for tick in axis.ticks] == ["0", "250", "500", "750", "1,000"]


def test_values_that_are_not_finite_do_not_stretch_the_axis():
    assert make_axis([1.0, 2.0, math.nan, math.inf]) == make_axis([1.0, 2.0])


def test_a_curve_starts_left_ends_right_and_falls_where_values_fall():
    curve = make_curve([[0, 2.0], [10, 1.5], [20, 1.0]])
    assert curve is not None
    points = [tuple(map(float, point.split(","))) for point in curve.line.split()]
    assert [x for x, _ in points] == [0, 50, 100]
    heights = [y for _, y in points]
    assert heights == sorted(heights), "the y axis of SVG points down"
    assert (curve.first, curve.last) == (2.0, 1.0)


@pytest.mark.parametrize("points", [[], [[1, 0.5]], [[1, math.nan], [2, math.nan], [3, 1.0]]])
def test_fewer_than_two_points_are_no_curve(points):
    assert make_curve(points) is None


def test_a_long_curve_is_thinned_but_keeps_its_end():
    curve = make_curve([[step, math.sin(step / 500)] for step in range(10_001)])
    assert curve is not None
    assert len(curve.line.split()) <= MOST_POINTS + 1
    assert curve.line.split()[-1].startswith("100,")


def test_a_noisy_loss_gets_a_running_mean_that_varies_less():
    curve = make_curve([[step, step % 2] for step in range(300)])
    assert curve is not None
    heights = [float(point.split(",")[1]) for point in curve.smooth.split()]
    middle = heights[20:-20]
    assert max(middle) - min(middle) < 10
