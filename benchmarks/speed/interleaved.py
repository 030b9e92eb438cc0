"""Timing several systems side by side on a machine that is not quiet.

Every round runs each system once, in an order drawn anew, so that whatever else the machine does falls on all of them
alike; what is reported are ratios within rounds, their median and its interval. Absolute figures only give the order
of magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from corpusmith import environment


def interleave(systems: Mapping[str, Callable[[], object]], rounds: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Seconds of each system in each of the rounds, after one round that does not count."""
    rng = np.random.default_rng(seed)
    names = list(systems)
    seconds = {name: np.zeros(rounds) for name in names}
    for round_ in range(-1, rounds):
        for i in rng.permutation(len(names)):
            started = environment.seconds()
            systems[names[i]]()
            if round_ >= 0:
                seconds[names[i]][round_] = environment.seconds() - started
    return seconds


def speed_ratio(peer: np.ndarray, ours: np.ndarray, seed: int = 0) -> dict[str, float]:
    """How many times faster ours was: the median over rounds, with a 95% bootstrap interval of the median."""
    ratios = peer / ours
    drawn = np.random.default_rng(seed).choice(ratios, (10_000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return {"median": round(float(np.median(ratios)), 3), "low": round(float(low), 3), "high": round(float(high), 3)}
