"""Passages scored by their sentences as well.

A vector of a whole passage says what the passage is about, and little of what a single sentence in it states; a query
often asks for the latter. So a passage's dense score is mixed with that of its best sentence. Sentences as units of
retrieval: Chen et al. (2024), "Dense X Retrieval: What Retrieval Granularity Should We Use?"; several granularities
together, without training: Cai et al. (2024), "MixGR: Enhancing Retriever Generalization for Scientific Domain through
Complementary Granularity" (both with propositions made by a language model, and reciprocal ranks in the latter; we take
sentences, and add cosines). Sentences are encoded by themselves: means over a sentence's tokens as they stand in the
passage's states ("late chunking") gain a third of it (docs/lab-notes.md).

Only passages that a search by whole vectors has found are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from corpusmith.arrays import open_array
from corpusmith.errors import ArtefactError
from corpusmith.index.dense import gathered
from corpusmith.retrieval.base import Ranking, candidates, rank

SENTENCES_AT_ONCE = 65_536
QUERIES_AT_ONCE = 128
VECTORS, FIRST = "vectors.npy", "first.npy"


class SentenceIndex:
    """Vectors of the sentences of P passages.

    Args:
        vectors: `[S, D]` float16, in one or several arrays end to end, which may be mapped.
        first: `[P]` the place of each passage's first sentence.
        counts: `[P]` how many it has, end to end.
    """

    def __init__(self, vectors: Sequence[np.ndarray], first: np.ndarray, counts: np.ndarray) -> None:
        self._segments, self._first, self._counts = vectors, first, counts
        self._total = int(counts.sum())

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the `vectors.npy` and `first.npy` of a folder.

        Raises:
            ArtefactError: a file is missing, damaged, or does not fit the other.
        """
        vectors, first = (open_array(folder / name, part_of="index") for name in (VECTORS, FIRST))
        if vectors.ndim != 2 or first.ndim != 1 or not len(first) or first[-1] != len(vectors):
            raise ArtefactError(f"the arrays of the index in {folder} do not fit together; build it again.")
        return cls([vectors], first[:-1], np.diff(first))

    def rescored(self, queries: np.ndarray, found: Ranking, share: float) -> Ranking:
        """The passages found for `queries[Q, D]`, `share` of the score of each being that of its best sentence; one
        without sentences keeps its own."""
        parts = [
            self._rescored(queries[some], Ranking(*(values[some] for values in found)), share)
            for some in self._batches(found)
        ]
        return Ranking(*map(np.concatenate, zip(*parts, strict=True))) if parts else found

    def _batches(self, found: Ranking) -> list[slice]:
        """Ranges of queries whose passages' sentences fit in memory together."""
        size = QUERIES_AT_ONCE
        if self._total > SENTENCES_AT_ONCE:
            of_a_query = found.rows.shape[1] * self._total / len(self._counts)
            size = max(1, min(QUERIES_AT_ONCE, int(SENTENCES_AT_ONCE / max(of_a_query, 1.0))))
        return [slice(start, start + size) for start in range(0, len(found.rows), size)]

    def _rescored(self, queries: np.ndarray, found: Ranking, share: float) -> Ranking:
        import torch

        numbers, rows, scores = candidates(found)
        passages, places = np.unique(rows, return_inverse=True)
        counts = self._counts[passages]
        has_some = counts > 0
        begins = np.cumsum(counts) - counts
        sentences = np.repeat(self._first[passages] - begins, counts) + np.arange(counts.sum())
        if not len(sentences):
            return found
        vectors = gathered(self._segments, sentences, queries.shape[1])
        products = torch.from_numpy(queries) @ torch.from_numpy(vectors).T
        best = np.full((len(queries), len(passages)), -np.inf, dtype=np.float32)
        best[:, has_some] = np.maximum.reduceat(products.numpy(), begins[has_some], axis=1)
        of_sentence = np.where(has_some[places], best[numbers, places], scores)
        mixed = (1 - share) * scores + share * of_sentence
        return rank(numbers, rows, mixed, *found.rows.shape)
