"""What search returns, and what a retriever is.

A ranking is two rectangular arrays instead of a list of lists: fusion, feedback and the step from passages to
documents are then a few vectorised lines, and thousands of training queries are mined as easily as one query is
answered. Equal scores are ordered by row everywhere, so that the same index gives the same answer on every machine
and in every batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

PADDING = -1
"""The row that stands where a query has fewer results than its neighbours; its score is minus infinity."""

Progress = Callable[[int, int], None]
"""Called with (done, total) as work advances."""


class Ranking(NamedTuple):
    """The K best of each of Q queries, best first: `rows[Q, K]` int64 and `scores[Q, K]` float32.

    Queries with fewer than K results end in `PADDING` rows with scores of minus infinity.
    """

    rows: np.ndarray
    scores: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """`[Q, K]` bool: which entries are results and not padding."""
        return self.rows != PADDING


class Retriever(Protocol):
    """Turns texts into L2-normalised float32 vectors `[N, D]` whose inner products rank documents for queries."""

    @property
    def dimension(self) -> int:
        """D, the width of the vectors."""
        ...

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """`[N, D]` vectors of queries, in the order given."""
        ...

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """`[N, D]` vectors of documents or passages, in the order given."""
        ...


def rank(queries: np.ndarray, rows: np.ndarray, scores: np.ndarray, n_queries: int, k: int) -> Ranking:
    """The `k` best candidates of each query, higher scores first and equal scores by row.

    `queries[C]` (0 to n_queries - 1), `rows[C]` and `scores[C]` describe C candidates in any order; a row occurs at
    most once for a query.
    """
    scores = np.asarray(scores, dtype=np.float32)
    order = np.lexsort((rows, -scores, queries))
    queries = queries[order]
    position = np.arange(len(order)) - np.searchsorted(queries, np.arange(n_queries))[queries]
    kept = position < k
    ranking = empty_ranking(n_queries, k)
    ranking.rows[queries[kept], position[kept]] = rows[order[kept]]
    ranking.scores[queries[kept], position[kept]] = scores[order[kept]]
    return ranking


def candidates(ranking: Ranking) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The other way round: `queries[C]`, `rows[C]` and `scores[C]` of all entries that are not padding."""
    queries, columns = np.nonzero(ranking.found)
    return queries, ranking.rows[queries, columns], ranking.scores[queries, columns]


def empty_ranking(n_queries: int, k: int) -> Ranking:
    """A ranking of padding alone."""
    return Ranking(np.full((n_queries, k), PADDING, dtype=np.int64), np.full((n_queries, k), -np.inf, dtype=np.float32))
