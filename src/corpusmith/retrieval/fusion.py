"""Two rankings made one: words that match exactly and meanings that match nearly miss different documents.

Relative score fusion keeps how far apart the scores lie: each list is stretched to [0, 1] over its own results and
the two are averaged with a weight (min-max normalisation and CombSUM, Fox & Shaw 1994, "Combination of multiple
searches"; Bruch, Gai & Ingber 2023, "An analysis of fusion functions for hybrid retrieval", find it better than
ranks alone and its one weight easy to learn). Reciprocal rank fusion looks at positions only (Cormack, Clarke &
Büttcher 2009), which is what remains when scores cannot be trusted. The product of the two scores (Xu, Guo, Duan &
McAuley 2022, "LaPraDoR", their lexicon-enhanced dense retrieval) asks a document for both: words choose, vectors
order.

In a sum, a document that only one list has found gets nothing from the other: 0, the value of a list's last result. In
a product, one that only vectors have found shares no word with the query, as far as the list of words tells, and comes
behind those that do; one that only words have found gets the last cosine of the dense list, since it can have no more.
"""

from __future__ import annotations

import numpy as np

from corpusmith.retrieval.base import Ranking, candidates, rank

RECIPROCAL_RANK_OFFSET = 60
"""k of Cormack et al. 2009, section 2: fixed there in a pilot and never tuned since."""

LEAST_FACTOR = 1e-6
"""What a score of 0 or less, or none, counts as in a product, which must not lose the other side's order."""


def relative_score(lexical: Ranking, dense: Ranking, weight: float, k: int) -> Ranking:
    """The `k` best by (1 - weight) x lexical + weight x dense, each list's scores stretched to [0, 1] per query.

    A list whose scores are all equal counts 1 for each of its results. Returns `[Q, min(k, K_lexical + K_dense)]`.
    """
    return _join(stretched(lexical) * (1 - weight), lexical, stretched(dense) * weight, dense, k, np.add)


def reciprocal_rank(lexical: Ranking, dense: Ranking, weight: float, k: int) -> Ranking:
    """The `k` best by (1 - weight) / (60 + rank in lexical) + weight / (60 + rank in dense), ranks from 1.

    The paper has no weight; 0.5 gives its order. Returns `[Q, min(k, K_lexical + K_dense)]`.
    """
    return _join(_reciprocal(lexical) * (1 - weight), lexical, _reciprocal(dense) * weight, dense, k, np.add)


def product(lexical: Ranking, dense: Ranking, weight: float, k: int) -> Ranking:
    """The `k` best by lexical ^ (2 - 2 weight) x dense ^ (2 weight), for BM25 scores and cosines as they are.

    The paper has no weight; 0.5 gives its product. A score of 0 or less counts as `LEAST_FACTOR`. So does the BM25
    score of a document that `lexical` lacks; the cosine of one that `dense` lacks is the last that the query has there,
    or 1 if it has none. Returns `[Q, min(k, K_lexical + K_dense)]`.
    """
    last = np.where(dense.found, _factors(dense), 1.0).min(axis=1, keepdims=True, initial=1.0)
    powers = 2 * (1 - weight), 2 * weight
    above = (_factors(lexical) / LEAST_FACTOR) ** powers[0], (_factors(dense) / last) ** powers[1]
    fused = _join(above[0], lexical, above[1], dense, k, np.multiply)
    return Ranking(fused.rows, (fused.scores * LEAST_FACTOR ** powers[0] * last ** powers[1]).astype(np.float32))


def _factors(ranking: Ranking) -> np.ndarray:
    """`[Q, K]` scores above 0."""
    return np.maximum(ranking.scores.astype(np.float64), LEAST_FACTOR)


def stretched(ranking: Ranking) -> np.ndarray:
    """`[Q, K]` scores, 1 for a query's best result and 0 for its last; all 1 where there is no difference."""
    if ranking.scores.shape[1] == 0:
        return ranking.scores.astype(np.float64)
    scores = np.where(ranking.found, ranking.scores, np.nan).astype(np.float64)
    last = np.where(ranking.found, scores, np.inf).min(axis=1, keepdims=True)
    spread = np.where(ranking.found, scores, -np.inf).max(axis=1, keepdims=True) - last
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, (scores - last) / spread, 1.0)


def _reciprocal(ranking: Ranking) -> np.ndarray:
    """`[Q, K]` one over 60 plus the rank."""
    ranks = np.arange(1, ranking.rows.shape[1] + 1)
    return np.broadcast_to(1 / (RECIPROCAL_RANK_OFFSET + ranks), ranking.rows.shape)


def _join(
    first_scores: np.ndarray, first: Ranking, second_scores: np.ndarray, second: Ranking, k: int, operation: np.ufunc
) -> Ranking:
    """Rank by both lists' scores added or multiplied; what one list lacks has the other's score alone."""
    n_queries = len(first.rows)
    parts = [candidates(Ranking(first.rows, first_scores)), candidates(Ranking(second.rows, second_scores))]
    queries, rows, scores = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((rows, queries))
    queries, rows, scores = queries[order], rows[order], scores[order]
    starts = np.flatnonzero((np.diff(queries, prepend=-1) != 0) | (np.diff(rows, prepend=-1) != 0))
    width = min(k, first.rows.shape[1] + second.rows.shape[1])
    joined = operation.reduceat(scores, starts) if len(starts) else scores
    return rank(queries[starts], rows[starts], joined, n_queries, width)
