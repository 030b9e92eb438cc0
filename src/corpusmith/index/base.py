"""The index contract, and the little that all indexes share.

An index knows rows (a passage's position in the corpus) and representations (texts, vectors), never documents: the
corpus is the one store of text, and every index can be thrown away and built again from it. `save` writes plain
arrays and JSON into a folder that the artefact layer publishes whole or not at all, so an index need not defend
itself against half-written files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np

from corpusmith.retrieval.base import Ranking

Representation = TypeVar("Representation", contravariant=True)


class Index(Protocol[Representation]):
    """Finds the rows whose representations score highest for a query's.

    `add` followed by `delete` of the same rows leaves the results as they were; a row can be added again after it
    was deleted. `search` returns `[Q, min(k, len(index))]` arrays, ties ordered by row.
    """

    def __len__(self) -> int: ...

    def add(self, ids: np.ndarray, representations: Representation) -> None:
        """Add N rows, none of which is in the index (ValueError otherwise)."""
        ...

    def delete(self, ids: np.ndarray) -> None:
        """Remove rows; those that are not in the index are passed over."""
        ...

    def search(self, queries: Representation, k: int) -> Ranking:
        """The `k` best rows of each query."""
        ...

    def save(self, folder: Path) -> None:
        """Write the index into an existing folder."""
        ...

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what `save` wrote; large arrays stay on disk until they are needed (ArtefactError if damaged)."""
        ...


def new_rows(ids: np.ndarray, present: np.ndarray) -> np.ndarray:
    """`ids` as int64 `[N]`, after checking that none occurs twice or is among the rows `present`."""
    ids = np.asarray(ids, dtype=np.int64)
    if ids.ndim != 1 or (len(ids) and ids.min() < 0):
        raise ValueError("row ids are a one-dimensional array of integers that are not negative")
    if len(np.unique(ids)) < len(ids):
        raise ValueError("the same row is added twice")
    clash = ids[np.isin(ids, present)]
    if len(clash):
        raise ValueError(f"row {clash[0]} is already in the index; delete it first")
    return ids
