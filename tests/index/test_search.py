"""The engine is tested with a retriever whose vectors are counts of a few words: what it finds can be worked out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from corpusmith.index.dense import DenseIndex
from corpusmith.index.lexical import LexicalIndex
from corpusmith.index.search import FUSIONS, SearchEngine, SearchSettings

TOPICS = {"car": 0, "automobile": 0, "engine": 1, "motor": 1, "cake": 2, "flour": 2, "river": 3, "stream": 3}
PASSAGES = [
    "automobile repair",  # document 0
    "motor oil and engine wear",
    "flour and sugar",  # document 1
    "a cake is baked",
    "river banks",  # document 2
    "stream of water",
    "car engine and motor car",  # document 3
]
DOCUMENTS = np.array([0, 0, 1, 1, 2, 2, 3])


class TopicRetriever:
    """Words of the same topic share an axis."""

    dimension = 5

    def encode_queries(self, texts: Sequence[str], progress: Any = None) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        vectors[:, 4] = 0.1
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.split():
                if word in TOPICS:
                    vector[TOPICS[word]] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_documents = encode_queries


@pytest.fixture
def engine() -> SearchEngine:
    retriever, lexical, dense = TopicRetriever(), LexicalIndex(), DenseIndex(TopicRetriever.dimension)
    lexical.add(np.arange(len(PASSAGES)), PASSAGES)
    dense.add(np.arange(len(PASSAGES)), retriever.encode_documents(PASSAGES))
    return SearchEngine(lexical, dense, retriever, DOCUMENTS)


def test_words_find_only_what_they_name(engine: SearchEngine) -> None:
    ranking = engine.rank(["car"], 10, "lexical")
    assert ranking.documents[ranking.ranking.found].tolist() == [3]


def test_vectors_find_what_is_meant(engine: SearchEngine) -> None:
    assert engine.rank(["car"], 2, "dense").documents.tolist() == [[0, 3]]


@pytest.mark.parametrize("fusion", ["relative", "reciprocal", "product"])
def test_fusion_ranks_first_what_both_sides_find(engine: SearchEngine, fusion) -> None:
    engine.settings = SearchSettings(fusion=fusion)
    ranking = engine.rank(["car"], 10)
    assert ranking.documents[0][:2].tolist() == [3, 0]
    assert ranking.passages[0][:2].tolist() == [6, 0]


@pytest.mark.parametrize("mode", ["lexical", "dense", "fused"])
def test_each_document_is_listed_once_with_one_of_its_passages(engine: SearchEngine, mode: Any) -> None:
    ranking = engine.rank(["engine oil", "cake", "river stream"], 10, mode)
    for documents, passages in zip(ranking.documents, ranking.passages, strict=True):
        real = documents >= 0
        assert len(set(documents[real])) == real.sum() > 0
        assert DOCUMENTS[passages[real]].tolist() == documents[real].tolist()


@pytest.mark.parametrize("fusion", ["relative", "reciprocal", "product"])
@pytest.mark.parametrize(("weight", "mode"), [(0.0, "lexical"), (1.0, "dense")])
def test_a_weight_at_its_end_ranks_by_one_side_first(engine: SearchEngine, fusion, weight, mode) -> None:
    engine.settings = SearchSettings(fusion=fusion, weight=weight)
    best = engine.rank(["motor car engine", "cake"], 1, mode)
    assert engine.rank(["motor car engine", "cake"], 1).documents.tolist() == best.documents.tolist()


def test_feedback_brings_in_what_resembles_the_first_results(engine: SearchEngine) -> None:
    query = ["automobile"]
    plain = engine.combine(engine.find(query), 4, SearchSettings(weight=0.9))
    moved = engine.combine(engine.find(query), 4, SearchSettings(weight=0.9, feedback=1.0, depth=2))
    assert plain.documents[0][0] == moved.documents[0][0] == 0
    score = {name: dict(zip(r.documents[0], r.scores[0], strict=True)) for name, r in [("p", plain), ("m", moved)]}
    assert score["m"][3] > score["p"][3]


def test_excluded_documents_make_room_for_others(engine: SearchEngine) -> None:
    queries = ["car engine", "car engine"]
    for mode in ("lexical", "dense", "fused"):
        plain, without = engine.rank(queries, 2, mode, exclude=[set(), {3}]).documents
        assert 3 in plain
        assert 3 not in without
        assert without[0] >= 0
    engine.settings = SearchSettings(feedback=0.5)
    assert 3 not in engine.rank(queries, 4, exclude=[set(), {3}]).documents[1]


@pytest.mark.parametrize("mode", ["lexical", "dense", "fused"])
@pytest.mark.parametrize("query", ["", "   ", "?!", "\n"])
def test_a_query_without_words_finds_nothing(engine: SearchEngine, mode: Any, query: str) -> None:
    engine.settings = SearchSettings(feedback=0.5)
    ranking = engine.rank([query, "car"], 3, mode)
    assert ranking.ranking.found.any(axis=1).tolist() == [False, True]


def test_every_fusion_works_with_feedback(engine: SearchEngine) -> None:
    for fusion in FUSIONS:
        engine.settings = SearchSettings(fusion=fusion, feedback=0.5)
        assert engine.rank(["car", "the of"], 2).documents[0].tolist() == [3, 0]


def test_a_query_of_stop_words_is_left_to_the_vectors(engine: SearchEngine) -> None:
    assert not engine.rank(["the of and"], 3, "lexical").ranking.found.any()
    assert engine.rank(["the of and"], 3).ranking.found.any()


@pytest.mark.parametrize("mode", ["lexical", "dense", "fused"])
def test_undecodable_bytes_in_a_query_do_no_harm(engine: SearchEngine, mode: Any) -> None:
    found = engine.rank(["car \udcff\ud800"], 2, mode)
    assert found.documents.tolist() == engine.rank(["car"], 2, mode).documents.tolist()


@pytest.mark.parametrize("mode", ["lexical", "dense", "fused"])
def test_more_documents_than_there_are_can_be_asked_for(engine: SearchEngine, mode: Any) -> None:
    ranking = engine.rank(["car engine cake river"], 1000, mode)
    assert sorted(ranking.documents[ranking.ranking.found].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", ["lexical", "dense", "fused"])
def test_no_queries_give_no_rows(engine: SearchEngine, mode: Any) -> None:
    assert len(engine.rank([], 5, mode).documents) == 0


@pytest.mark.parametrize("feedback", [0.0, 0.5])
def test_a_batch_gives_what_single_queries_give(
    engine: SearchEngine, feedback: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpusmith.index.search.QUERIES_AT_ONCE", 2)
    engine.settings = SearchSettings(feedback=feedback)
    queries = ["car engine", "flour", "river", "?", "stream of cake"]
    exclude: list[set[int]] = [{0}, set(), {2}, set(), set()]
    together = engine.rank(queries, 4, exclude=exclude)
    for row, (query, excluded) in enumerate(zip(queries, exclude, strict=True)):
        alone = engine.rank([query], 4, exclude=[excluded])
        assert alone.documents[0].tolist() == together.documents[row].tolist()
        assert alone.passages[0].tolist() == together.passages[row].tolist()


def test_an_empty_collection_finds_nothing() -> None:
    retriever = TopicRetriever()
    engine = SearchEngine(LexicalIndex(), DenseIndex(5), retriever, np.zeros(0, dtype=np.int64))
    for mode in ("lexical", "dense", "fused"):
        assert not engine.rank(["car"], 3, mode).ranking.found.any()
