"""What queries are asked of: the corpus with some documents' contents replaced.

A query made from a document would find its own copy there; so the document stands in the collection without the
query's words, while everything else is the corpus as it is. The vectors of unchanged passages are taken from the
corpus's own, and only what was changed is encoded again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from corpusmith.arrays import open_array, save_array
from corpusmith.corpus.store import Corpus
from corpusmith.index.dense import DenseIndex
from corpusmith.index.lexical import LexicalConfig, LexicalIndex
from corpusmith.index.sentences import SentenceIndex


@dataclass(frozen=True, slots=True)
class Collection:
    """Passages at positions 0 to n + m: the corpus `rows[n]`, then the `masked` (document row, content) pairs."""

    corpus: Corpus
    rows: np.ndarray
    masked: tuple[tuple[int, str], ...] = ()

    @classmethod
    def whole(cls, corpus: Corpus) -> Self:
        """The corpus as it is."""
        return cls(corpus, np.arange(corpus.n_passages, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows) + len(self.masked)

    @property
    def documents(self) -> np.ndarray:
        """`[n + m]` document row of each position."""
        masked = np.array([document for document, _ in self.masked], dtype=np.int64)
        return np.concatenate([self.corpus.passage_documents[self.rows], masked])

    def contents(self) -> Iterator[str]:
        """What stands at each position."""
        for start in range(0, len(self), 1000):
            yield from self.contents_at(np.arange(start, min(start + 1000, len(self))))

    def contents_at(self, positions: np.ndarray) -> list[str]:
        """What stands at these positions, in the order asked for."""
        kept = positions < len(self.rows)
        passages = iter(self.corpus.contents_at(self.rows[positions[kept]]))
        masked = iter(positions[~kept] - len(self.rows))
        return [next(passages) if is_kept else self.masked[next(masked)][1] for is_kept in kept]

    def lexical_index(self, config: LexicalConfig, scratch: Path | None = None) -> LexicalIndex:
        """A BM25 index over the positions; with `scratch`, a new folder, it lies on the disk and not in memory.

        What was written there stays mapped, and its space taken, for as long as the index lives.
        """
        if scratch is None:
            index = LexicalIndex(config)
            index.add(np.arange(len(self)), self.contents())
            return index
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was cut off here
        for folder in (scratch / "parts", scratch / "index"):
            folder.mkdir(parents=True)
        try:
            index = LexicalIndex(config, spool=scratch / "parts")
            index.add(np.arange(len(self)), self.contents())
            index.save(scratch / "index")
            return LexicalIndex.open(scratch / "index")
        finally:
            shutil.rmtree(scratch)

    def dense_index(self, vectors: np.ndarray, masked: np.ndarray) -> DenseIndex:
        """A dense index over the positions; `vectors[N, D]` are the corpus's own by row, `masked[m, D]` the others'."""
        index = DenseIndex(vectors.shape[1])
        index.add(np.arange(len(self.rows)), vectors[self.rows])
        index.add(np.arange(len(self.rows), len(self)), masked)
        return index

    def sentence_index(self, vectors: Sequence[np.ndarray], first: np.ndarray, masked: np.ndarray) -> SentenceIndex:
        """The sentences of the positions; `vectors` are the corpus's own and the masked ones', `first[N+1]` and
        `masked[m+1]` say where those of each passage begin in them."""
        counts = np.concatenate([np.diff(first)[self.rows], np.diff(masked)])
        return SentenceIndex(vectors, np.concatenate([first[self.rows], len(vectors[0]) + masked[:-1]]), counts)

    def replacing(self, masked: tuple[tuple[int, str], ...]) -> Collection:
        """The collection with these documents' passages replaced by the given contents."""
        replaced = np.unique([document for document, _ in masked])
        return Collection(self.corpus, self.rows[~np.isin(self.corpus.passage_documents[self.rows], replaced)], masked)

    def subset(self, positions: np.ndarray) -> Collection:
        """The collection of these positions alone, in ascending order."""
        positions = np.unique(positions)
        kept = positions[positions < len(self.rows)]
        masked = tuple(self.masked[position - len(self.rows)] for position in positions[len(kept) :])
        return Collection(self.corpus, self.rows[kept], masked)

    def save(self, folder: Path) -> None:
        """Write `rows.npy` and `masked.jsonl`."""
        save_array(folder / "rows.npy", self.rows)
        with (folder / "masked.jsonl").open("w", encoding="utf-8") as file:
            for document, content in self.masked:
                file.write(json.dumps([document, content], ensure_ascii=False) + "\n")

    @classmethod
    def open(cls, folder: Path, corpus: Corpus) -> Self:
        """Read what `save` wrote."""
        with (folder / "masked.jsonl").open(encoding="utf-8") as file:
            masked = tuple((document, content) for document, content in map(json.loads, file))
        return cls(corpus, open_array(folder / "rows.npy"), masked)
