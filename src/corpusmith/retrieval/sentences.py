"""The sentences of passages, to be encoded one by one.

Titles and headings are left out: they are in the vector of the whole passage, and a sentence that they are put before
says less by itself (docs/lab-notes.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np

from corpusmith.corpus.clean import count_words
from corpusmith.corpus.sentences import statements
from corpusmith.retrieval.base import Progress
from corpusmith.retrieval.dense import DenseRetriever
from corpusmith.retrieval.vectors import encode_to_file

SHORTEST_WORDS = 4
"""A sentence of fewer words (a number, a name, an abbreviation that was taken for an end) says nothing by itself."""


class Sentences:
    """Sentences of P passages, numbered end to end: those of passage p are `first[p]` to `first[p + 1]`, int64 [P+1].
    A passage of a single one has none: it is what the passage says.

    Args:
        texts: the texts of the passages from row `start` to `stop` (exclusive), without titles and headings.
        number: P.
        limit: sentences that begin behind so many words of a passage are left out.
    """

    def __init__(self, texts: Callable[[int, int], Iterable[str]], number: int, limit: int) -> None:
        self._texts, self._limit = texts, limit
        counts = np.fromiter((len(self._of(text)) for text in texts(0, number)), np.int64, number)
        self.first = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])

    def __len__(self) -> int:
        return int(self.first[-1])

    def between(self, start: int, stop: int) -> list[str]:
        """The sentences from number `start` to `stop` (exclusive)."""
        if stop <= start:
            return []
        begin, end = np.searchsorted(self.first, [start, stop - 1], side="right").tolist()
        found = chain.from_iterable(map(self._of, self._texts(begin - 1, end)))
        return list(found)[start - int(self.first[begin - 1]) :][: stop - start]

    def _of(self, text: str) -> list[str]:
        found, words = [], 0
        for sentence in statements(text):
            if words >= self._limit:
                break
            count = count_words(sentence)
            words += count
            if count >= SHORTEST_WORDS:
                found.append(sentence)
        return found if len(found) > 1 else []


def encode_sentences(
    sentences: Sentences, retriever: DenseRetriever, path: Path, progress: Progress | None, scratch: Path
) -> None:
    """Write the vectors of all sentences to `path`, float16 `[len(sentences), D]`: there are ten times as many as of
    passages, and to choose the best of a few half the bits are enough. An interrupted call goes on where it was."""

    def fill(start: int, stop: int, out: np.ndarray, progress: Progress) -> None:
        out[:] = retriever.encode_documents(sentences.between(start, stop), progress)

    key = retriever.backend.arithmetic
    encode_to_file(path, len(sentences), retriever.dimension, fill, progress, key, scratch, np.float16)
