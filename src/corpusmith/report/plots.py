"""Where things stand in a plot, in percent of its width and height.

The plots are drawn by the template as inline SVG that stretches to whatever room the page has, with their labels as
HTML beside them. So a plot takes its colours from the page (light, dark, paper), its labels keep their size on a
phone, and the report needs neither a plotting library nor a script. What is left for Python are positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
MOST_POINTS = 400
SMOOTHED_OVER = 25


@dataclass(frozen=True, slots=True)
class Axis:
    """A stretch of numbers with round ticks on it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Position of a value in percent, kept on the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 3)

    def label(self, tick: float) -> str:
        """A tick as short as the distance between ticks allows: 400, 0.05."""
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else abs(tick) or 1.0
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        if not math.isclose(step * 10**digits, round(step * 10**digits), abs_tol=1e-6):
            digits += 1
        return f"{0.0 if abs(tick) < step / 2 else tick:,.{digits}f}"


def make_axis(values: Iterable[float], most_ticks: int = 5) -> Axis:
    """The axis that holds all values (those that are finite), its ticks round, itself ending between them."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    is_point = math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12)
    margin = (abs(low) / 10 or 0.5) if is_point else (high - low) * 0.04
    low, high = low - margin, high + margin
    step = _round_up((high - low) / most_ticks)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Axis(min(low, ticks[0]), max(high, ticks[-1]), ticks)  # a tick on the very end may be rounded beyond it


def _round_up(step: float) -> float:
    """The next step that people count in: 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in STEPS if power * factor >= step * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class Curve:
    """A line over steps: its axes, `line` and `smooth` as SVG point lists, the value it starts and ends with.

    `smooth` is a running mean, for values as noisy as a batch's loss; it is empty where there are few points.
    """

    x: Axis
    y: Axis
    line: str
    smooth: str
    first: float
    last: float


def make_curve(points: Sequence[Sequence[float]]) -> Curve | None:
    """A curve through [[step, value], ...], None with fewer than two finite points."""
    known = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(known) < 2:
        return None
    known = _thin(known)
    x, y = make_axis((step for step, _ in known), 6), make_axis((value for _, value in known), 6)
    x = Axis(known[0][0], known[-1][0], tuple(tick for tick in x.ticks if known[0][0] <= tick <= known[-1][0]))
    averaged = _running_mean(known) if len(known) > 4 * SMOOTHED_OVER else []
    ends = averaged or known
    return Curve(x, y, _points(known, x, y), _points(averaged, x, y), ends[0][1], ends[-1][1])


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` of the points, evenly, the last among them."""
    stride = math.ceil(len(points) / MOST_POINTS)
    return points if stride == 1 else [*points[:-1:stride], points[-1]]


def _running_mean(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each value averaged with its neighbours on both sides, with fewer of them at the ends."""
    half = SMOOTHED_OVER // 2
    values = [value for _, value in points]
    windows = (values[max(0, index - half) : index + half + 1] for index in range(len(points)))
    return [(step, sum(window) / len(window)) for (step, _), window in zip(points, windows, strict=True)]


def _points(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return " ".join(f"{x.at(step):g},{100 - y.at(value):g}" for step, value in points)
