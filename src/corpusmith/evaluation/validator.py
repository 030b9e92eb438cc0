"""How good an encoder is for search, in seconds: the score that training watches.

Encoding the whole corpus at every evaluation would eat the budget. So the held-out validation queries are asked of a
small pool: their answers, and the passages that BM25 and the base model together put near the top for them, which
are the ones an encoder can be wrong about. Scores on the pool run higher than on the corpus; they compare encoders of
one run and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from corpusmith.corpus.store import Identifiers
from corpusmith.evaluation.base import QuerySet
from corpusmith.evaluation.collection import Collection
from corpusmith.evaluation.compare import DECIDING_MEASURE, System, run_systems
from corpusmith.index.lexical import LexicalIndex
from corpusmith.index.search import SearchEngine, SearchSettings
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.encoder import Encoder
from corpusmith.retrieval.dense import DenseRetriever

PLAIN_FUSION = SearchSettings(weight=0.5)


class Validator:
    """Called with an encoder, gives the mean of its dense and its fused nDCG@10 on the pool; `cut` makes of the
    checkpoint what will search."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        collection: Collection,
        lexical: LexicalIndex,
        query_set: QuerySet,
        document_ids: Identifiers,
        cut: Callable[[Checkpoint], Checkpoint] = lambda whole: whole,
    ) -> None:
        self.cut = cut
        self.checkpoint, self.collection, self.query_set = checkpoint, collection, query_set
        self.document_ids = document_ids
        self.lexical = lexical
        self.contents = list(collection.contents())

    def __call__(self, encoder: Encoder) -> float:
        """The score of this encoder; higher is better."""
        from corpusmith.index.dense import DenseIndex

        retriever = DenseRetriever(self.cut(replace(self.checkpoint, encoder=encoder)))
        dense = DenseIndex(retriever.dimension)
        dense.add(np.arange(len(self.contents)), retriever.encode_documents(self.contents))
        engine = SearchEngine(self.lexical, dense, retriever, self.collection.documents, PLAIN_FUSION)
        systems = [System(mode, mode, engine, mode, PLAIN_FUSION, False) for mode in ("dense", "fused")]
        measured = run_systems(systems, self.query_set, self.document_ids)
        return float(np.mean([values.mean(DECIDING_MEASURE) for values in measured.values()]))


def first_queries(query_set: QuerySet, number: int, seed: int) -> QuerySet:
    """At most `number` of the queries, drawn by `seed`."""
    names = list(query_set.queries)
    if len(names) > number:
        drawn = np.random.default_rng([seed, 0x5E1E]).choice(len(names), number, replace=False)
        names = [names[i] for i in sorted(drawn)]
    return replace(
        query_set,
        queries={name: query_set.queries[name] for name in names},
        qrels={name: query_set.qrels[name] for name in names},
    )


def pool_of(engine: SearchEngine, query_set: QuerySet, answers: np.ndarray, neighbours: int) -> np.ndarray:
    """Positions to search: every passage of the documents `answers` (rows), and each query's first `neighbours`."""
    found = engine.rank(list(query_set.queries.values()), neighbours).documents
    documents = np.union1d(found[found >= 0], answers)
    return np.flatnonzero(np.isin(engine.passage_documents, documents))
