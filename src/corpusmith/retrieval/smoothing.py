"""Score smoothing: documents near to each other get scores near to each other.

What answers a query lies together (the cluster hypothesis; van Rijsbergen 1979), so that a document among others that
score well is likelier to be relevant than one that scores as well alone. This is score regularisation (Diaz 2005,
"Regularizing ad hoc retrieval scores"), which lets scores flow along a graph of nearest neighbours among the first
documents; of his closed form, which solves for all steps at once, we take the first step, and keep the share of each
document's own score. It costs a product of a hundred vectors with themselves a query.
"""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 10
"""Documents that a document's score is smoothed with."""
SHARPNESS = 8
"""Power of the cosine by which neighbours count: at 0.5 a neighbour counts a hundredth of one at 0.9."""


def smoothed(scores: np.ndarray, vectors: np.ndarray, found: np.ndarray, share: float) -> np.ndarray:
    """`[Q, K]` float32 scores, of which `share` is the mean score of each document's nearest neighbours in its row.

    Args:
        scores: `[Q, K]` the documents' own scores, not negative.
        vectors: `[Q, K, D]` float32, L2-normalised, of what speaks for each document.
        found: `[Q, K]` bool, which entries are documents; the others' scores stay as they are.
        share: 0 leaves the scores as they are, at 1 a document's own score does not count.

    A document that is like none of the others keeps its score.
    """
    count = scores.shape[1]
    if share == 0 or count < 2:
        return scores
    affinity = np.maximum(vectors @ vectors.transpose(0, 2, 1), 0) ** SHARPNESS
    affinity *= found[:, :, None] & found[:, None, :] & ~np.eye(count, dtype=bool)
    if count > NEIGHBOURS + 1:
        least = np.partition(affinity, -NEIGHBOURS, axis=2)[:, :, -NEIGHBOURS, None]
        affinity[affinity < least] = 0
    totals = affinity.sum(axis=2)
    own = np.where(found, scores, 0)
    means = np.divide((affinity @ own[:, :, None])[:, :, 0], totals, out=own.copy(), where=totals > 0)
    return np.where(found, (1 - share) * own + share * means, scores).astype(np.float32)
