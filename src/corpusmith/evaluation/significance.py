"""Is the difference real, and how sure are the means?

Retrieval measures are far from normal, so nothing here assumes it. The paired randomisation test asks how often
swapping the two systems' values, query by query at random, makes a difference as large as the one seen; Smucker,
Allan & Carterette 2007 ("A comparison of statistical significance tests for information retrieval evaluation")
recommend it over the sign and Wilcoxon tests. Intervals are bootstrap percentiles (Efron 1979; Sakai 2006,
"Evaluating evaluation metrics based on the bootstrap"); for means of dozens to thousands of queries the corrected
variants differ in the third digit, and the percentiles extend to several collections without further theory.
Several comparisons are corrected by Holm's procedure (Holm 1979).

Both take the per-query values of one collection, `[Q]`, or a list of such arrays, one a collection. The statistic is
then the mean over collections of the collection's mean, as tables of several collections report it, so that a large
collection does not drown a small one; queries are swapped and drawn within their collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
MOST_EXACT_FLIPS = 14
NUMBERS_A_BLOCK = 2**21

Values = np.ndarray | Sequence[np.ndarray]
"""Per-query values of one collection, or of each of several."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    level: float


def paired_randomisation(first: Values, second: Values, seed: int, draws: int = DRAWS) -> float:
    """Two-sided p-value of the paired randomisation (sign-flip) test that two systems have the same mean.

    `first` and `second` hold the two systems' values for the same queries in the same order. Up to 14 queries that
    differ are tested exactly by all 2^n flips; beyond that by `draws` random ones, the observed one counted in (so
    that p is never 0; Phipson & Smyth 2010). Without any difference p is 1.

    Raises:
        ValueError: the two do not have the same queries.
    """
    pairs = list(zip(_groups(first), _groups(second), strict=True))
    if any(len(one) != len(other) for one, other in pairs):
        raise ValueError("a paired test needs values of the same queries from both systems")
    weighted = _weighted([one - other for one, other in pairs])
    return _randomised(weighted[None], abs(weighted.sum()), seed, draws)


def best_of_several(differences: np.ndarray, seed: int, draws: int = DRAWS) -> float:
    """Two-sided p-value of the largest of K mean paired differences `[K, Q]`, adjusted for its being the largest.

    What was picked as the best of several is not taken for the only one that was tried: the test is that of
    `paired_randomisation`, with the largest absolute mean as its statistic, each in its own standard errors (Westfall &
    Young 1993, "Resampling-based multiple testing", single-step maxT). Of one difference it is the same test.
    """
    errors = np.sqrt((differences**2).sum(axis=1, keepdims=True))  # flips of signs leave them as they are
    scaled = np.divide(differences, errors, out=np.zeros(differences.shape), where=errors > 0)
    best = int(differences.mean(axis=1).argmax())
    return _randomised(scaled, abs(scaled[best].sum()), seed, draws)


def _randomised(values: np.ndarray, observed: float, seed: int, draws: int) -> float:
    """How often the largest absolute sum of the rows of `values[K, Q]` is as large as observed, signs flipped by
    column."""
    values = values[:, (values != 0).any(axis=0)]
    number = values.shape[1]
    if number == 0:
        return 1.0
    exact = number <= MOST_EXACT_FLIPS
    as_large = observed - 1e-12 * np.abs(values).sum(axis=1).max()  # equal sums may differ in their last bits
    total = 2**number if exact else draws
    rng = np.random.default_rng(seed)
    reached = 0
    for start, stop in _blocks(total, number):
        if exact:
            flips = (np.arange(start, stop)[:, None] >> np.arange(number)) & 1
        else:
            flips = rng.integers(0, 2, size=(stop - start, number), dtype=np.int8)
        reached += int((np.abs((1.0 - 2.0 * flips) @ values.T).max(axis=1) >= as_large).sum())
    return reached / total if exact else (reached + 1) / (total + 1)


def bootstrap_interval(values: Values, seed: int, level: float = 0.95, resamples: int = DRAWS) -> Interval:
    """Percentile bootstrap interval of the mean of per-query values, or of paired differences.

    Raises:
        ValueError: there is no value, or none for one of several collections.
    """
    groups = _groups(values)
    if not groups or any(len(group) == 0 for group in groups):
        raise ValueError("an interval needs at least one value of every collection")
    rng = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for group in groups:
        for start, stop in _blocks(resamples, len(group)):
            drawn = rng.integers(0, len(group), size=(stop - start, len(group)))
            means[start:stop] += group[drawn].mean(axis=1) / len(groups)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(np.mean([np.mean(group) for group in groups]))
    return Interval(mean, float(low), float(high), level)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being one of several comparisons (Holm 1979), in the order given.

    Rejecting those at most alpha keeps the chance of any false rejection at alpha, whatever their dependence.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted.tolist()


def _groups(values: Values) -> list[np.ndarray]:
    """One float64 array a collection."""
    groups = [values] if isinstance(values, np.ndarray) else values
    return [np.asarray(group, dtype=np.float64) for group in groups]


def _weighted(groups: list[np.ndarray]) -> np.ndarray:
    """All values end to end, scaled so that their sum is the mean over collections of the collection's mean."""
    return np.concatenate([np.zeros(0), *(group / (len(group) * len(groups)) for group in groups if len(group))])


def _blocks(total: int, width: int) -> list[tuple[int, int]]:
    """Ranges that cut `total` draws of `width` numbers into pieces of bounded memory."""
    step = max(1, NUMBERS_A_BLOCK // width)
    return [(start, min(start + step, total)) for start in range(0, total, step)]
