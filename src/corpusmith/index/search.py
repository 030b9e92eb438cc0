"""One way to search, for the reader's query as for ten thousand evaluation queries.

Passages are found by words and by vectors (of whole passages and of their sentences; whitened, where that helps), each
list is turned into documents by the best passage, and the two lists are fused. With feedback the dense queries then
move toward the first fused documents and search once more, with smoothing a document's score takes after its
neighbours', and late interaction looks at the first documents once more, token by token. Documents are fused rather
than passages, because the passage that repeats the query's words and the one that answers it need not be the same.

What costs time in any case (encoding queries, the two searches) is kept in `Candidates`, apart from the settings that
combine it, so that choosing weight and feedback on a validation slice encodes its queries once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import Field

from corpusmith import environment
from corpusmith.config import Config
from corpusmith.index.base import Index
from corpusmith.index.dense import DenseIndex
from corpusmith.index.documents import DocumentRanking, find, to_documents
from corpusmith.retrieval.base import PADDING, Ranking, Retriever
from corpusmith.retrieval.feedback import move_queries
from corpusmith.retrieval.fusion import product, reciprocal_rank, relative_score, stretched
from corpusmith.retrieval.smoothing import smoothed
from corpusmith.retrieval.whitening import SAMPLE, Spectrum, spectrum_of, whitened

if TYPE_CHECKING:
    from corpusmith.index.sentences import SentenceIndex
    from corpusmith.retrieval.late_interaction import LateInteraction

QUERIES_AT_ONCE = 128
"""Queries whose candidates are put in order together: a thousand for each are many."""
LATE_QUERIES = 1024
"""Queries for which late interaction encodes a passage once."""
SMOOTHED = 100
"""Fused documents whose scores are smoothed."""
Mode = Literal["lexical", "dense", "fused"]
Exclusion = Sequence[Collection[int]]
"""For each query the document rows that must not be returned (its own source, say)."""

FUSIONS: dict[str, Callable[[Ranking, Ranking, float, int], Ranking]] = {
    "relative": relative_score,
    "reciprocal": reciprocal_rank,
    "product": product,
}


class SearchSettings(Config):
    """How the lexical and the dense ranking become one."""

    fusion: Literal["relative", "reciprocal", "product"] = "relative"
    """"relative" adds scores stretched to [0, 1], "reciprocal" adds reciprocal ranks, "product" multiplies scores."""
    weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the dense ranking, 0 (words alone) to 1 (vectors alone)."""
    whitening: float = Field(default=0.0, ge=0, le=1)
    """Share by which directions along which all passages differ count less in dense search; 0 leaves them as they are,
    at 1 all have the same variance."""
    sentences: float = Field(default=0.0, ge=0, le=1)
    """Share of a passage's dense score that is its best sentence's; 0 leaves sentences out."""
    feedback: float = Field(default=0.0, ge=0)
    """How far dense queries move toward the first fused documents, 0 (off) upward; at 1 the documents' mean counts
    as much as the query."""
    smoothing: float = Field(default=0.0, ge=0, le=1)
    """Share of a fused document's score that is its nearest neighbours' among the first 100; 0 switches it off."""
    late: float = Field(default=0.0, ge=0)
    """Weight of late interaction against the fused scores, both stretched over the documents that it looks at; 0
    switches it off."""
    late_depth: int = Field(default=20, ge=2)
    """How many fused documents late interaction looks at."""
    depth: int = Field(default=3, ge=1)
    """How many fused documents the feedback uses."""
    candidates: int = Field(default=1000, ge=1)
    """How many passages each of the two searches contributes."""


class Candidates(NamedTuple):
    """What the two searches found for Q queries before anything is combined.

    `vectors[Q, D]` are the `queries`', `answerable[Q]` says which of them hold a letter or digit, `settings` are those
    of the dense search.
    """

    queries: Sequence[str]
    vectors: np.ndarray
    answerable: np.ndarray
    lexical: DocumentRanking
    dense: DocumentRanking
    settings: SearchSettings

    def of(self, queries: slice) -> Candidates:
        """What was found for some of the queries."""
        lexical, dense = (side.of(queries) for side in (self.lexical, self.dense))
        vectors, answerable = self.vectors[queries], self.answerable[queries]
        return Candidates(self.queries[queries], vectors, answerable, lexical, dense, self.settings)


class SearchEngine:
    """Ranks documents for queries.

    Args:
        lexical: index of the passages' texts.
        dense: index of the same passages' vectors.
        retriever: encodes queries as the passages were encoded.
        passage_documents: `[P]` document row of each passage row.
        settings: how to combine the two; `replace` it at will, nothing is cached.
        late: scores passages by their tokens; needed only where the settings ask for it.
        sentences: vectors of the passages' sentences; needed only where the settings ask for them.
    """

    def __init__(
        self,
        lexical: Index[Sequence[str]],
        dense: DenseIndex,
        retriever: Retriever,
        passage_documents: np.ndarray,
        settings: SearchSettings | None = None,
        late: LateInteraction | None = None,
        sentences: SentenceIndex | None = None,
    ) -> None:
        self.lexical = lexical
        self.dense = dense
        self.retriever = retriever
        self.passage_documents = np.asarray(passage_documents, dtype=np.int64)
        self.settings = settings or SearchSettings()
        self.late = late
        self.sentences = sentences
        self._spectrum: Spectrum | None = None

    def rank(
        self, queries: Sequence[str], k: int, mode: Mode = "fused", exclude: Exclusion | None = None
    ) -> DocumentRanking:
        """The `k` best documents of each query, `[Q, K]` with K at most `k`; a query without words finds nothing.

        `mode` "lexical" and "dense" rank by one side alone, and nothing follows. `exclude` names for each query the
        documents to leave out.
        """
        settings = self.settings
        if mode == "lexical":
            return _first(self._find_lexical(queries, settings, exclude), k)
        if mode == "dense":
            return _first(self._find_dense(self._encode(queries), _answerable(queries), settings, exclude), k)
        return self.combine(self.find(queries, exclude), k, exclude=exclude)

    def find(self, queries: Sequence[str], exclude: Exclusion | None = None) -> Candidates:
        """Encode the queries and search by words and by vectors: the part that weight and feedback do not change, and
        whitening and sentences in half."""
        vectors, answerable, settings = self._encode(queries), _answerable(queries), self.settings
        return Candidates(
            queries,
            vectors,
            answerable,
            self._find_lexical(queries, settings, exclude),
            self._find_dense(vectors, answerable, settings, exclude),
            settings,
        )

    def adapted(self, found: Candidates, settings: SearchSettings, exclude: Exclusion | None) -> Candidates:
        """Candidates for these settings: themselves, or with the dense search done anew if it was another.

        `exclude` is what `find` was given.
        """
        if all(getattr(settings, name) == getattr(found.settings, name) for name in ("whitening", "sentences")):
            return found
        dense = self._find_dense(found.vectors, found.answerable, settings, exclude)
        return found._replace(dense=dense, settings=settings)

    def after_feedback(self, found: Candidates, settings: SearchSettings, exclude: Exclusion | None) -> DocumentRanking:
        """The dense ranking once the queries have moved toward the first documents of the fused one; candidates are
        those `adapted` to the settings.

        `exclude` is what `find` was given.
        """
        fused = self._fuse(found.lexical, found.dense, settings, settings.depth)
        moved = move_queries(
            found.vectors, fused.passages, fused.scores, self.dense.vectors, settings.feedback, settings.depth
        )
        return self._find_dense(moved, found.answerable, settings, exclude)

    def combine(
        self,
        found: Candidates,
        k: int,
        settings: SearchSettings | None = None,
        exclude: Exclusion | None = None,
    ) -> DocumentRanking:
        """Fuse candidates by `settings` (the engine's own, if None), with feedback, smoothing and late interaction
        where they ask for these.

        `exclude` is what `find` was given.
        """
        settings = settings or self.settings
        found = self.adapted(found, settings, exclude)
        width = max(k, settings.late_depth) if settings.late > 0 else k
        fused = DocumentRanking.joined(
            self._fused(found.of(some), width, settings, exclude and exclude[some])
            for some in _batches(len(found.vectors), QUERIES_AT_ONCE)
        )
        if settings.late > 0:
            parts = [(found.queries[some], fused.of(some)) for some in _batches(len(found.vectors), LATE_QUERIES)]
            fused = DocumentRanking.joined(self._interacted(queries, part, settings) for queries, part in parts)
        return _first(fused, k)

    def _fused(self, found: Candidates, k: int, settings: SearchSettings, exclude: Exclusion | None) -> DocumentRanking:
        width = max(k, SMOOTHED) if settings.smoothing > 0 else k
        environment.make_room()
        dense = self.after_feedback(found, settings, exclude) if settings.feedback > 0 else found.dense
        fused = self._fuse(found.lexical, dense, settings, width)
        if settings.smoothing > 0:
            fused = self._smoothed(fused, settings.smoothing)
        return _first(fused, k)

    def _smoothed(self, fused: DocumentRanking, share: float) -> DocumentRanking:
        """The ranking with the scores of its first documents brought nearer to their neighbours'."""
        first = _first(fused, SMOOTHED)
        found = first.ranking.found
        vectors = np.zeros((*found.shape, self.dense.dimension), dtype=np.float32)
        vectors[found] = self.dense.vectors(first.passages[found])
        return fused.rescored(smoothed(first.scores, vectors, found, share))

    def _interacted(self, queries: Sequence[str], fused: DocumentRanking, settings: SearchSettings) -> DocumentRanking:
        """The ranking with late interaction added to the scores of its first documents, stretched from 0 to the width
        of their scores: none falls behind the documents that are not looked at."""
        if self.late is None:
            raise ValueError("these settings ask for late interaction, and this engine was made without it")
        first = _first(fused, settings.late_depth)
        found, scores = first.ranking.found, first.scores
        late = stretched(Ranking(first.documents, self.late.scores(queries, first.passages)))
        highest = np.where(found, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
        lowest = np.where(found, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
        width = np.where(found.any(axis=1, keepdims=True), highest - lowest, 0)
        return fused.rescored(scores + settings.late * width * np.where(found, late, 0))

    def _encode(self, queries: Sequence[str]) -> np.ndarray:
        if not queries:
            return np.zeros((0, self.retriever.dimension), dtype=np.float32)
        return self.retriever.encode_queries(queries)

    def _find_lexical(
        self, queries: Sequence[str], settings: SearchSettings, exclude: Exclusion | None
    ) -> DocumentRanking:
        return self._documents(self.lexical.search(queries, settings.candidates), exclude)

    def _find_dense(
        self, vectors: np.ndarray, answerable: np.ndarray, settings: SearchSettings, exclude: Exclusion | None
    ) -> DocumentRanking:
        queries = self._whitened(vectors, settings.whitening)
        found = self.dense.search(queries, settings.candidates)
        if settings.sentences > 0:
            if self.sentences is None:
                raise ValueError("these settings ask for vectors of sentences, and this engine was made without them")
            found = self.sentences.rescored(queries, found, settings.sentences)
        found.rows[~answerable] = PADDING
        return self._documents(found, exclude)

    def _whitened(self, vectors: np.ndarray, share: float) -> np.ndarray:
        """Queries whitened by the passages that are there when this is first asked for."""
        if share == 0:
            return vectors
        if self._spectrum is None:
            self._spectrum = spectrum_of(self.dense.sample(SAMPLE))
        return vectors if self._spectrum is None else whitened(vectors, self._spectrum, share)

    def _documents(self, passages: Ranking, exclude: Exclusion | None) -> DocumentRanking:
        if exclude is not None:
            for rows, excluded in zip(passages.rows, exclude, strict=True):
                if excluded:
                    rows[np.isin(self.passage_documents[rows], list(excluded))] = PADDING
        return DocumentRanking.joined(
            to_documents(passages.rows[some], passages.scores[some], self.passage_documents)
            for some in _batches(len(passages.rows), QUERIES_AT_ONCE)
        )

    def _fuse(
        self, lexical: DocumentRanking, dense: DocumentRanking, settings: SearchSettings, k: int
    ) -> DocumentRanking:
        """Fuse two document rankings; the side that ranks a document higher names its passage."""
        fused = FUSIONS[settings.fusion](lexical.ranking, dense.ranking, settings.weight, k)
        dense_position, dense_passages = _lookup(fused.rows, dense)
        lexical_position, lexical_passages = _lookup(fused.rows, lexical)
        passages = np.where(dense_position <= lexical_position, dense_passages, lexical_passages)
        return DocumentRanking(fused.rows, fused.scores, passages)


def _lookup(documents: np.ndarray, side: DocumentRanking) -> tuple[np.ndarray, np.ndarray]:
    """Position (very large where absent) and passage of `documents[Q, K]` in one side's ranking."""
    queries, columns = np.nonzero(side.ranking.found)
    rows = side.documents[queries, columns]
    positions = find(documents, queries, rows, columns)
    positions = np.where(positions == PADDING, np.iinfo(np.int64).max, positions)
    return positions, find(documents, queries, rows, side.passages[queries, columns])


def _batches(n_queries: int, size: int) -> list[slice]:
    """Ranges of at most `size` queries; an empty one if there are none."""
    return [slice(start, start + size) for start in range(0, max(n_queries, 1), size)]


def _first(ranking: DocumentRanking, k: int) -> DocumentRanking:
    return DocumentRanking(*(values[:, :k] for values in ranking))


def _answerable(queries: Sequence[str]) -> np.ndarray:
    """`[Q]` bool: queries with a letter or digit in them."""
    return np.array([any(character.isalnum() for character in query) for query in queries], dtype=bool)
