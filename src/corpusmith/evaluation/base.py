"""Queries with relevance judgements, and what measuring a ranking on them gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Judged queries of one collection.

    `queries[id]` is the text, `qrels[id][document id]` the grade: above 0 is relevant, and document ids that are not
    listed count as not relevant. Both have the same ids in the same order, and every query has at least one relevant
    document. `exclude[id]` are documents never to be returned for the query. `notes` are sentences on what was left
    out or finds nothing, for the report.
    """

    name: str
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    split: str = ""
    exclude: dict[str, set[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def n_judgements(self) -> int:
        """Judgements of relevant documents."""
        return sum(grade > 0 for judged in self.qrels.values() for grade in judged.values())

    @property
    def judged(self) -> set[str]:
        """Ids of all judged documents, relevant or not."""
        return {document for judged in self.qrels.values() for document in judged}

    def missing(self, document_ids: Collection[str]) -> list[str]:
        """Relevant documents that the collection does not hold, sorted: they stay judged and cannot be found."""
        relevant = {document for judged in self.qrels.values() for document, grade in judged.items() if grade > 0}
        return sorted(relevant.difference(document_ids))


@dataclass(frozen=True, slots=True)
class Measured:
    """Per-query values: `values[measure][i]` belongs to `queries[i]`, in the order of the query set."""

    queries: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    def mean(self, measure: str) -> float:
        """The mean over queries."""
        return float(self.values[measure].mean())
