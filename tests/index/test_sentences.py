from pathlib import Path

import numpy as np
import pytest

from corpusmith.errors import ArtefactError
from corpusmith.index import sentences
from corpusmith.index.sentences import SentenceIndex
from corpusmith.retrieval.base import Ranking

COUNTS = np.array([2, 0, 1, 3, 0, 1])
FIRST = np.array([0, 2, 2, 3, 6, 6, 7])


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(7, 4)).astype(np.float16)


@pytest.fixture
def found() -> Ranking:
    rows = np.array([[3, 1, 0, -1], [5, 2, 3, 0], [4, 1, -1, -1]])
    scores = np.array([[0.9, 0.5, 0.1, -np.inf], [0.8, 0.6, 0.4, 0.2], [0.3, 0.2, -np.inf, -np.inf]], dtype=np.float32)
    return Ranking(rows, scores)


def expected(vectors: np.ndarray, queries: np.ndarray, found: Ranking, share: float) -> list[list[tuple[int, float]]]:
    """The definition, passage by passage."""
    ranked = []
    for query, rows, scores in zip(queries, found.rows, found.scores, strict=True):
        mixed = []
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            own = vectors[FIRST[row] : FIRST[row + 1]].astype(np.float32) @ query
            if row >= 0:
                mixed.append((row, (1 - share) * score + share * (own.max() if len(own) else score)))
        ranked.append(sorted(mixed, key=lambda pair: -pair[1]))
    return ranked


@pytest.mark.parametrize("at_once", [1, 4, 100])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_score_is_mixed_with_that_of_the_best_sentence(
    vectors: np.ndarray, found: Ranking, share: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentences, "SENTENCES_AT_ONCE", at_once)
    queries = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    index = SentenceIndex([vectors[:3], vectors[3:]], FIRST[:-1], COUNTS)
    rescored = index.rescored(queries, found, share)
    assert rescored.rows.shape == found.rows.shape
    for rows, scores, wanted in zip(*rescored, expected(vectors, queries, found, share), strict=True):
        assert rows[rows >= 0].tolist() == [row for row, _ in wanted]
        assert scores[rows >= 0] == pytest.approx([score for _, score in wanted], abs=1e-5)


def test_passages_without_sentences_keep_their_scores(found: Ranking) -> None:
    empty = SentenceIndex(
        [np.zeros((0, 4), dtype=np.float16)], np.zeros(6, dtype=np.int64), np.zeros(6, dtype=np.int64)
    )
    rescored = empty.rescored(np.ones((3, 4), dtype=np.float32), found, 0.5)
    assert rescored.rows.tolist() == found.rows.tolist()
    nothing = Ranking(found.rows[:0], found.scores[:0])
    assert len(empty.rescored(np.zeros((0, 4), dtype=np.float32), nothing, 0.5).rows) == 0


def test_files_that_do_not_fit_are_refused(vectors: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", vectors)
    np.save(tmp_path / "first.npy", FIRST)
    assert SentenceIndex.open(tmp_path)
    np.save(tmp_path / "first.npy", FIRST + 1)
    with pytest.raises(ArtefactError, match="do not fit together"):
        SentenceIndex.open(tmp_path)
