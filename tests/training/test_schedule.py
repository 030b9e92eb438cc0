from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corpusmith.training.schedule import learning_rate_factor


@given(st.integers(1, 500), st.floats(0, 0.5), st.floats(0, 0.5))
def test_it_rises_stays_and_falls_within_bounds(steps, warmup, decay):
    factors = [learning_rate_factor(step, steps, warmup, decay) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_warmup_stable_and_decay_take_the_shares_asked_for():
    factors = [learning_rate_factor(step, 100, 0.1, 0.2) for step in range(100)]
    assert factors[:2] == [0.1, 0.2]
    assert factors[9:80] == [1.0] * 71
    assert factors[80] < 1
    assert factors[-1] < 0.03


def test_without_phases_the_rate_is_constant():
    assert {learning_rate_factor(step, 7, 0.0, 0.0) for step in range(7)} == {1.0}
