"""A finished build opened for use: search it, encode with its model, measure it on judged queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpusmith.artefact import open_artefact, read_manifest, refuse_mismatch
from corpusmith.corpus.store import Corpus
from corpusmith.errors import ArtefactError, EvaluationError
from corpusmith.index.dense import DenseIndex
from corpusmith.index.lexical import LexicalIndex
from corpusmith.index.search import Mode, SearchEngine, SearchSettings
from corpusmith.index.sentences import SentenceIndex
from corpusmith.model.arithmetic import best_device
from corpusmith.model.huggingface import load_checkpoint
from corpusmith.retrieval.encoding import Encoding, make_retriever
from corpusmith.retrieval.late_interaction import LateInteraction

if TYPE_CHECKING:
    import numpy as np

    from corpusmith.evaluation.base import QuerySet
    from corpusmith.retrieval.dense import DenseRetriever


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One document found, with the passage that speaks for it."""

    rank: int
    document_id: str
    title: str
    heading: str
    text: str
    score: float


class Searcher:
    """Searches the index of a build and encodes with its model.

    Not to be shared between threads that search at the same time: torch and the tokenizer use all cores for one query.
    """

    def __init__(self, corpus: Corpus, engine: SearchEngine, retriever: DenseRetriever) -> None:
        self.corpus, self.engine, self.retriever = corpus, engine, retriever

    def search(self, query: str, k: int = 10, mode: Mode = "fused") -> list[SearchResult]:
        """The `k` best documents, best first; an empty list where nothing matches or the query has no words."""
        if k < 1:
            return []
        found = self.engine.rank([query], k, mode)
        rows = [row for row in found.passages[0].tolist() if row >= 0]
        return [
            SearchResult(rank, passage.document_id, passage.title, passage.heading, passage.text, float(score))
            for rank, (passage, score) in enumerate(zip(self.corpus.take(rows), found.scores[0], strict=False), 1)
        ]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """`[N, D]` float32 vectors of length 1: their inner product is the texts' similarity."""
        return self.retriever.encode(list(texts))

    def evaluate(self, query_set: QuerySet, seed: int = 0) -> dict[str, Any]:
        """Measures of search by words, by vectors and by both on judged queries, as the report shows them.

        Raises:
            EvaluationError: the queries are about other documents.
        """
        from corpusmith.evaluation.compare import System, compare

        off = dict.fromkeys(("whitening", "sentences", "feedback", "smoothing", "late"), 0.0)
        plain = self.engine.settings.model_copy(update={"weight": 0.5, **off})
        systems = [
            System("bm25", "BM25", self.engine, "lexical", plain, True),
            System("dense", "model alone", self.engine, "dense", plain, True),
            System("fusion", "BM25 + model", self.engine, "fused", plain, True),
            System("built", "search as built", self.engine, "fused", self.engine.settings, False),
        ]
        known = self.corpus.document_ids.rows(query_set.judged)
        missing = len(query_set.missing(known))
        if not known:
            raise EvaluationError(
                f"none of the documents that {query_set.name} judges is in this index: queries and index must be of "
                "the same corpus, with the same document ids."
            )
        note = f"{missing} relevant documents are not in the index." if missing else ""
        return compare(query_set, systems, self.corpus.document_ids, "judged", note, seed)


def load(folder: str | Path) -> Searcher:
    """Open the build in `folder`; every file is checked against its digest first.

    Raises:
        ArtefactError: the build is unfinished, a file is missing or damaged, or index and model do not belong together.
    """
    folder = Path(folder)
    index, model = folder / "index", folder / "model"
    if not folder.is_dir():
        raise ArtefactError(f"no such folder: {folder}.")
    for part in (index, model):
        if not part.exists():
            raise ArtefactError(
                f"{folder} holds no finished build (no {part.name}); run `corpusmith build` with --out {folder}."
            )
    refuse_mismatch(folder, open_artefact(index, "index"), read_manifest(model))  # its files are checked in loading

    corpus = Corpus.open(index / "corpus")
    retriever = make_retriever(load_checkpoint(model).to(best_device()), Encoding.open(index).method)
    try:
        settings = SearchSettings(**json.loads((index / "settings.json").read_text(encoding="utf-8")))
    except ValueError as error:
        raise ArtefactError(f"{index / 'settings.json'} is damaged ({error}); run the build again.") from error
    engine = SearchEngine(
        LexicalIndex.open(index / "lexical"),
        DenseIndex.open(index / "dense"),
        retriever,
        corpus.passage_documents,
        settings,
        LateInteraction(retriever, corpus.contents_at),
        SentenceIndex.open(index / "sentences") if settings.sentences > 0 else None,
    )
    return Searcher(corpus, engine, retriever)
