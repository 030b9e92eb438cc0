"""From passages to documents: a document is as good as its best passage.

MaxP (Dai & Callan 2019, "Deeper text understanding for IR with contextual neural language modeling", section 3)
is the rule that needs no training, does not favour long documents as a sum would, and points at the passage to
show the reader.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np

from corpusmith.retrieval.base import PADDING, Ranking, candidates, rank


class DocumentRanking(NamedTuple):
    """The K best documents of each of Q queries: `documents[Q, K]` rows, `scores[Q, K]`, `passages[Q, K]` rows of
    the passage that speaks for each; padded like a `Ranking`."""

    documents: np.ndarray
    scores: np.ndarray
    passages: np.ndarray

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Rankings of one width, one behind the other; at least one."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def of(self, queries: slice) -> Self:
        """The rankings of some of the queries."""
        return type(self)(*(values[queries] for values in self))

    def rescored(self, scores: np.ndarray) -> Self:
        """The ranking with new scores `[Q, N]` of its first N documents, which are put into their order; the others
        stay behind them as they are. Equal scores are ordered by row."""
        count = scores.shape[1]
        order = np.lexsort((self.documents[:, :count], -scores))
        first = (self.documents[:, :count], scores.astype(np.float32), self.passages[:, :count])
        rest = (values[:, count:] for values in self)
        return type(self)(
            *(
                np.concatenate([np.take_along_axis(values, order, axis=1), others], axis=1)
                for values, others in zip(first, rest, strict=True)
            )
        )

    @property
    def ranking(self) -> Ranking:
        """The documents alone."""
        return Ranking(self.documents, self.scores)


def to_documents(rows: np.ndarray, scores: np.ndarray, passage_documents: np.ndarray) -> DocumentRanking:
    """Documents by their best passage, as many columns as there were.

    `rows[Q, K]` and `scores[Q, K]` rank passages, best first; `passage_documents[row]` is each passage's document.
    Of equally good passages of a document the one that comes first speaks for it.
    """
    queries, passages, values = candidates(Ranking(rows, scores))
    documents = passage_documents[passages]
    order = np.lexsort((passages, -values, documents, queries))
    queries, documents = queries[order], documents[order]
    best = (np.diff(queries, prepend=-1) != 0) | (np.diff(documents, prepend=-1) != 0)
    queries, documents, passages, values = queries[best], documents[best], passages[order][best], values[order][best]
    ranked = rank(queries, documents, values, len(rows), rows.shape[1])
    return DocumentRanking(*ranked, passages=find(ranked.rows, queries, documents, passages))


def find(wanted: np.ndarray, queries: np.ndarray, documents: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`[Q, K]` values of the documents `wanted[Q, K]`, -1 where the query has no such document.

    `queries[C]`, `documents[C]` (each pair once) and `values[C]` are the table to look in.
    """
    if len(values) == 0:
        return np.full(wanted.shape, PADDING, dtype=np.int64)
    stride = int(max(documents.max(), wanted.max(initial=0))) + 1
    keys = queries * stride + documents
    order = np.argsort(keys)
    wanted_keys = np.arange(len(wanted))[:, None] * stride + wanted
    places = order[np.searchsorted(keys, wanted_keys, sorter=order).clip(max=len(keys) - 1)]
    return np.where((keys[places] == wanted_keys) & (wanted != PADDING), values[places], PADDING)
