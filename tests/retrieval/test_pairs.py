"""Pairs made from a corpus, and the candidates mined for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corpusmith.corpus.base import Document
from corpusmith.corpus.build import build_corpus
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.store import Corpus
from corpusmith.objective.statistics import WordStatistics
from corpusmith.retrieval.pairs import (
    Pair,
    PairsConfig,
    labelled_pairs,
    make_pairs,
    mine_candidates,
    open_pairs,
    save_pairs,
)
from corpusmith.retrieval.word_sets import WordSets


@pytest.fixture
def corpus(tmp_path: Path, sentences: list[str]) -> Corpus:
    documents = [
        Document(f"d{i}", f"Title number {i}", " ".join(sentences[j % len(sentences)] for j in range(i, i + 5)))
        for i in range(0, len(sentences), 2)
    ]
    folder = tmp_path / "corpus"
    folder.mkdir()
    build_corpus(documents, CorpusConfig(near_duplicate_threshold=1.0), folder)
    return Corpus.open(folder)


def rank_by_row(queries: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.tile(np.arange(k), (len(queries), 1))
    rows[rows >= 12] = -1
    scores = np.where(rows >= 0, 1.0 / (np.maximum(rows, 0) + 1.0), -np.inf).astype(np.float32)
    return rows, scores


def test_a_query_is_not_left_in_its_positive(corpus: Corpus) -> None:
    pairs = make_pairs(corpus, PairsConfig(), np.array([]), seed=0)
    assert {pair.kind for pair in pairs} == {"title", "sentence"}
    assert all(pair.query not in pair.positive for pair in pairs)


def test_words_make_queries_that_are_the_passages_own_and_no_longer_in_it(corpus: Corpus) -> None:
    config = PairsConfig(kinds=("words",))
    pairs = make_pairs(corpus, config, np.array([]), seed=0)
    assert {pair.kind for pair in pairs} == {"words"}
    assert len(pairs) > 0.8 * corpus.n_passages
    for pair in pairs:
        words, content = pair.query.split(), corpus.passage(pair.row).content
        assert len(words) >= 2
        assert len({word.casefold() for word in words}) == len(words)
        left = set(re.findall(r"\w+", pair.positive.casefold()))
        assert set(words) <= set(re.findall(r"\w+", content))
        assert not left & {word.casefold() for word in words}
    queries = " ".join(pair.query.casefold() for pair in pairs).split()
    assert not {"the", "of"} & set(queries)
    assert make_pairs(corpus, config, np.array([]), seed=0) == pairs
    assert make_pairs(corpus, config, np.array([]), seed=1) != pairs


def test_of_two_word_sets_the_likelier_is_the_query(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = WordSets(corpus, np.arange(corpus.n_documents), seed=0)
    asked = []

    def likelihood(self: WordStatistics, words: np.ndarray, document: np.ndarray, smoothing: float) -> np.ndarray:
        asked.append((words, document, smoothing))
        return np.array([-2.0, -1.0])

    passage = corpus.passage(0)
    monkeypatch.setattr(WordStatistics, "log_likelihood", likelihood)
    second = sets.query(passage)
    monkeypatch.setattr(WordStatistics, "log_likelihood", lambda *asked: -likelihood(*asked))
    first = sets.query(passage)
    assert first != second
    assert len(asked[0][0]) == 2
    assert np.isin(asked[0][0], asked[0][1]).all()
    assert asked[0][2] == pytest.approx(sets._statistics.total / corpus.n_passages)


def test_a_passage_with_one_word_or_common_words_alone_gives_no_query(corpus: Corpus) -> None:
    sets = WordSets(corpus, np.arange(corpus.n_documents), seed=0)
    passage = corpus.passage(0)
    for text in ("", "Uncommon", "the of the", "the uncommon Uncommon"):
        assert sets.query(replace(passage, text=text)) == ""
    assert set(sets.query(replace(passage, text="rare thing")).split()) == {"rare", "thing"}


def test_excluded_documents_give_no_pairs(corpus: Corpus) -> None:
    pairs = make_pairs(corpus, PairsConfig(), np.array([0, 3]), seed=0)
    assert {pair.document for pair in pairs} == set(range(corpus.n_documents)) - {0, 3}


def test_pairs_are_drawn_by_the_seed_and_bounded(corpus: Corpus) -> None:
    config = PairsConfig(maximum=7, per_document=2)
    first, again, other = (make_pairs(corpus, config, np.array([]), seed) for seed in (1, 1, 2))
    assert len(first) == 7
    assert first == again != other


def test_candidates_are_of_other_documents_with_scores_from_one_to_zero(corpus: Corpus) -> None:
    pairs = make_pairs(corpus, PairsConfig(), np.array([]), seed=0)
    config = PairsConfig(candidates=4, depth=20)
    rows, scores = mine_candidates(pairs, rank_by_row, corpus, config, 0, np.array([2]))
    assert rows.shape == (len(pairs), 4)
    for pair, found, values in zip(pairs, rows, scores, strict=True):
        documents = corpus.passage_documents[found]
        assert pair.document not in documents
        assert 2 not in documents
        assert len(set(found.tolist())) == 4
        assert values[0] == 1
        assert (np.diff(values) <= 0).all()
        assert values[-1] >= 0


def test_saved_pairs_are_read_back(corpus: Corpus, tiny_tokenizer, tmp_path: Path) -> None:
    pairs = make_pairs(corpus, PairsConfig(), np.array([]), seed=0)
    rows, scores = mine_candidates(pairs, rank_by_row, corpus, PairsConfig(candidates=2), 0, np.array([]))
    (tmp_path / "pairs").mkdir()
    save_pairs(pairs, rows, scores, tiny_tokenizer, tmp_path / "pairs")
    opened = open_pairs(tmp_path / "pairs")
    assert len(opened) == len(pairs)
    assert (opened.negatives == rows).all()
    assert [opened.kind_names[kind] for kind in opened.kinds] == [pair.kind for pair in pairs]
    assert (opened.queries[0] == tiny_tokenizer.encode([pairs[0].query])[0]).all()


def test_labels_become_pairs_with_the_documents_best_passage(corpus: Corpus) -> None:
    pairs = labelled_pairs({"q": "blood"}, {"q": {"d0": 1, "d4": 0, "gone": 1}}, corpus, rank_by_row)
    assert pairs == [Pair("blood", corpus.passage(0).content, 0, 0, "label")]
