"""Timing several systems side by side on a machine that is not quiet.

Every round runs each system once, in an order drawn anew, so that whatever else the machine does falls on all of them
alike; what is reported are ratios within rounds, their median and its interval. Absolute figures only give the order
of magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpusmith import environment


@dataclass(frozen=True, slots=True)
class Rounds:
    """One system's rounds: `seconds[R]` of each, and what each of the R calls returned."""

    seconds: np.ndarray
    answers: list[Any]


def interleave(systems: Mapping[str, Callable[[], Any]], rounds: int, seed: int = 0) -> dict[str, Rounds]:
    """Call every system once a round, after one round that does not count."""
    rng = np.random.default_rng(seed)
    names = list(systems)
    found = {name: Rounds(np.zeros(rounds), [None] * rounds) for name in names}
    for round_ in range(-1, rounds):
        for i in rng.permutation(len(names)):
            started = environment.seconds()
            answer = systems[names[i]]()
            if round_ >= 0:
                found[names[i]].seconds[round_] = environment.seconds() - started
                found[names[i]].answers[round_] = answer
    return found


def speed_ratio(peer: np.ndarray, ours: np.ndarray, seed: int = 0) -> dict[str, float]:
    """How many times faster ours was: the median over rounds, with a 95% bootstrap interval of the median.

    Args:
        peer: seconds of each round, or seconds a unit of work where rounds are not equally long.
        ours: the same of ours.
        seed: for the bootstrap.
    """
    ratios = peer / ours
    drawn = np.random.default_rng(seed).choice(ratios, (10_000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return {"median": round(float(np.median(ratios)), 3), "low": round(float(low), 3), "high": round(float(high), 3)}
