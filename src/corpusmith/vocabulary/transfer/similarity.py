"""Weights from likeness: for each query, which of the keys it is mixed of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array, vstack

SCORES_HELD = 2**24
"""Scores computed at a time."""


def softmax_weights(queries: np.ndarray, keys: np.ndarray, neighbours: int, temperature: float) -> csr_array:
    """`float64[n, m]`: softmax of the inner products with the nearest keys over `temperature`.

    Args:
        queries: `[n, d]`.
        keys: `[m, d]`, m at least 1.
        neighbours: how many keys have weight.
        temperature: what inner products are divided by.
    """
    count = min(neighbours, len(keys))
    blocks = [csr_array((0, len(keys)))]
    for scores in _scores(queries, keys):
        nearest = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(scores, nearest, axis=1).astype(np.float64) / temperature
        shares = np.exp(near - near.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        borders = np.arange(0, shares.size + 1, count)
        blocks.append(csr_array((shares.ravel(), nearest.ravel(), borders), shape=scores.shape))
    return csr_array(vstack(blocks))


def sparsemax_weights(queries: np.ndarray, keys: np.ndarray) -> csr_array:
    """`float64[n, m]`: sparsemax of the inner products of `queries[n, d]` and `keys[m, d]`, m at least 1."""
    blocks = [csr_array((0, len(keys)))]
    blocks += [csr_array(sparsemax(scores.astype(np.float64))) for scores in _scores(queries, keys)]
    return csr_array(vstack(blocks))


def sparsemax(scores: np.ndarray) -> np.ndarray:
    """The nearest point of the simplex to each row of `[n, m]`: `max(0, z - tau)` with tau such that it sums to 1.

    Found by leaving out what lies below the present tau until nothing does (Michelot 1986, "A Finite Algorithm for
    Finding the Projection of a Point onto the Canonical Simplex"); sparsemax is of Martins and Astudillo (2016).
    """
    kept = scores > scores.max(axis=1, keepdims=True) - 1
    while True:
        tau = (np.where(kept, scores, 0.0).sum(axis=1, keepdims=True) - 1) / kept.sum(axis=1, keepdims=True)
        smaller = kept & (scores > tau)
        if np.array_equal(smaller, kept):
            return np.where(kept, scores - tau, 0.0)
        kept = smaller


def _scores(queries: np.ndarray, keys: np.ndarray) -> Iterator[np.ndarray]:
    """Inner products `[block, m]`, a block of queries at a time."""
    rows = max(1, SCORES_HELD // len(keys))
    for start in range(0, len(queries), rows):
        yield queries[start : start + rows] @ keys.T
