"""The engine is tested with a retriever whose vectors are counts of a few words: what it finds can be worked out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from corpusmith.index.dense import DenseIndex
from corpusmith.index.lexical import LexicalIndex
from corpusmith.index.search import FUSIONS, SearchEngine, SearchSettings
from corpusmith.index.sentences import SentenceIndex

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
    engine.settings, engine.late = SearchSettings(smoothing=0.3, late=1.0), ByLength()  # type: ignore[assignment]
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


class ByLength:
    """Late interaction by the length of the passages alone, the longest first."""

    def scores(self, queries: Sequence[str], rows: np.ndarray) -> np.ndarray:
        assert len(queries) == len(rows)
        return np.array([[len(PASSAGES[row]) if row >= 0 else 0 for row in of_query] for of_query in rows], np.float32)


def test_late_interaction_reorders_the_first_documents_only(engine: SearchEngine) -> None:
    engine.late = ByLength()  # type: ignore[assignment]
    queries = ["river stream car"]
    plain = engine.rank(queries, 4)
    engine.settings = SearchSettings(late=100.0, late_depth=2)
    late = engine.rank(queries, 4)
    first = sorted(plain.passages[0, :2].tolist(), key=lambda row: -len(PASSAGES[row]))
    assert late.passages[0].tolist() == [*first, *plain.passages[0, 2:].tolist()]
    assert (np.diff(late.scores[late.ranking.found]) <= 0).all()


def test_late_interaction_adds_up_to_its_weight(engine: SearchEngine) -> None:
    engine.late = ByLength()  # type: ignore[assignment]
    plain = engine.rank(["river stream car"], 3)
    engine.settings = SearchSettings(late=0.5, late_depth=3)
    late = engine.rank(["river stream car"], 3)
    scores = dict(zip(plain.documents[0].tolist(), plain.scores[0].tolist(), strict=True))
    lengths = np.array([len(PASSAGES[row]) for row in plain.passages[0]], dtype=float)
    shares = (lengths - lengths.min()) / (lengths.max() - lengths.min())
    width = plain.scores[0].max() - plain.scores[0].min()
    expected = {
        document: scores[document] + 0.5 * width * share
        for document, share in zip(plain.documents[0].tolist(), shares, strict=True)
    }
    assert dict(zip(late.documents[0].tolist(), late.scores[0].tolist(), strict=True)) == pytest.approx(expected)


def test_an_engine_without_late_interaction_says_so(engine: SearchEngine) -> None:
    engine.settings = SearchSettings(late=1.0)
    with pytest.raises(ValueError, match="made without it"):
        engine.rank(["car"], 2)


def test_smoothing_lifts_what_resembles_the_first(engine: SearchEngine) -> None:
    plain = engine.rank(["car flour"], 4)
    engine.settings = SearchSettings(smoothing=0.5)
    smooth = engine.rank(["car flour"], 4)
    assert sorted(plain.documents[0].tolist()) == sorted(smooth.documents[0].tolist())
    near = {0, 3}  # documents about cars
    before, after = ([r for r, d in enumerate(found.documents[0].tolist()) if d in near] for found in (plain, smooth))
    assert sum(after) <= sum(before)
    assert smooth.scores[0].tolist() != plain.scores[0].tolist()


@pytest.mark.parametrize("mode", ["lexical", "dense"])
def test_one_side_alone_is_neither_smoothed_nor_looked_at_again(engine: SearchEngine, mode: Any) -> None:
    plain = engine.rank(["car flour"], 4, mode)
    engine.settings = SearchSettings(smoothing=0.9, late=5.0)
    assert engine.rank(["car flour"], 4, mode).documents.tolist() == plain.documents.tolist()


def crowded() -> SearchEngine:
    """Twenty passages that differ much in their first dimension, which says nothing, and little in the others."""
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(20, 5)) * [1, 0.1, 0.1, 0.1, 0.1]).astype(np.float32)
    dense = DenseIndex(5)
    dense.add(np.arange(20), vectors)
    lexical = LexicalIndex()
    lexical.add(np.arange(20), ["car"] * 20)
    return SearchEngine(lexical, dense, TopicRetriever(), np.arange(20))


@pytest.mark.parametrize("mode", ["dense", "fused"])
def test_candidates_found_without_whitening_are_searched_anew_where_settings_ask_for_it(mode: Any) -> None:
    engine, queries = crowded(), ["car engine", "flour", "?"]
    found = engine.find(queries)
    settings = SearchSettings(whitening=0.5, feedback=0.5)
    engine.settings = settings
    wanted = engine.rank(queries, 20, mode)
    ranked = engine.combine(found, 20, settings) if mode == "fused" else engine.adapted(found, settings, None).dense
    assert ranked.documents.tolist() == wanted.documents.tolist()
    assert ranked.documents[0].tolist() != found.dense.documents[0].tolist()
    assert not wanted.ranking.found[2].any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"feedback": 0.5},
        {"whitening": 0.5, "feedback": 0.5},
        {"sentences": 0.5, "feedback": 0.5},
        {"smoothing": 0.4},
        {"late": 2.0, "late_depth": 2},
    ],
)
def test_a_batch_gives_what_single_queries_give(
    engine: SearchEngine, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpusmith.index.search.QUERIES_AT_ONCE", 2)
    engine.settings, engine.late = SearchSettings(**options), ByLength()  # type: ignore[assignment]
    engine.sentences = of_sentences()
    queries = ["car engine", "flour", "river", "?", "stream of cake"]
    exclude: list[set[int]] = [{0}, set(), {2}, set(), set()]
    together = engine.rank(queries, 4, exclude=exclude)
    for row, (query, excluded) in enumerate(zip(queries, exclude, strict=True)):
        alone = engine.rank([query], 4, exclude=[excluded])
        assert alone.documents[0].tolist() == together.documents[row].tolist()
        assert alone.passages[0].tolist() == together.passages[row].tolist()


def of_sentences() -> SentenceIndex:
    """Each passage's words as its sentences."""
    counts = np.array([len(passage.split()) for passage in PASSAGES])
    vectors = TopicRetriever().encode_documents([word for passage in PASSAGES for word in passage.split()])
    return SentenceIndex([vectors.astype(np.float16)], np.cumsum(counts) - counts, counts)


def test_a_passage_may_be_found_by_one_sentence_of_many(engine: SearchEngine) -> None:
    engine.sentences = of_sentences()
    assert engine.rank(["car"], 2, "dense").passages.tolist() == [[0, 6]]
    engine.settings = SearchSettings(sentences=1.0)
    found = engine.rank(["motor car"], 4, "dense")
    assert found.documents[0, :2].tolist() == [0, 3]
    assert found.scores[0, 0] == pytest.approx(found.scores[0, 1], abs=1e-3)
    engine.settings = SearchSettings(sentences=0.5, feedback=0.5)
    before = engine.find(["motor car"])
    anew = engine.adapted(before, SearchSettings(sentences=0.0), None)
    assert anew.dense.scores.tolist() != before.dense.scores.tolist()


def test_settings_that_ask_for_sentences_need_their_vectors(engine: SearchEngine) -> None:
    engine.settings = SearchSettings(sentences=0.5)
    with pytest.raises(ValueError, match="made without them"):
        engine.rank(["car"], 3)


def test_an_empty_collection_finds_nothing() -> None:
    retriever = TopicRetriever()
    settings = SearchSettings(whitening=0.5)
    engine = SearchEngine(LexicalIndex(), DenseIndex(5), retriever, np.zeros(0, dtype=np.int64), settings)
    for mode in ("lexical", "dense", "fused"):
        assert not engine.rank(["car"], 3, mode).ranking.found.any()
