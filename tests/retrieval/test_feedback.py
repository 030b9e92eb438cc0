import numpy as np
import pytest

from corpusmith.retrieval.feedback import move_queries

VECTORS = np.eye(4, dtype=np.float32)


def vectors_of(rows: np.ndarray) -> np.ndarray:
    return VECTORS[rows]


def test_a_query_moves_toward_the_score_weighted_mean_of_its_first_results() -> None:
    moved = move_queries(
        VECTORS[:1], np.array([[1, 2, 3]]), np.array([[0.75, 0.25, 0.9]]), vectors_of, strength=2.0, depth=2
    )
    expected = np.array([1.0, 2 * 0.75, 2 * 0.25, 0.0])
    assert moved[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert moved.dtype == np.float32


def test_strength_zero_leaves_queries_as_they_are() -> None:
    queries = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    moved = move_queries(queries, np.array([[1], [2]]), np.ones((2, 1)), vectors_of, strength=0)
    assert np.array_equal(moved, queries)


def test_moved_queries_are_normalised() -> None:
    queries = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    rows, scores = np.tile([0, 1, 2], (5, 1)), np.tile([0.9, 0.5, 0.1], (5, 1))
    moved = move_queries(queries, rows, scores, vectors_of, strength=0.7)
    assert np.linalg.norm(moved, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


def test_a_query_without_results_stays_where_it_was() -> None:
    rows, scores = np.array([[-1, -1], [3, -1]]), np.array([[-np.inf, -np.inf], [0.4, -np.inf]])
    moved = move_queries(VECTORS[:2], rows, scores, vectors_of, strength=1.0)
    assert moved[0].tolist() == VECTORS[0].tolist()
    assert moved[1] == pytest.approx([0, 0.5**0.5, 0, 0.5**0.5])


def test_results_that_all_score_zero_weigh_the_same() -> None:
    moved = move_queries(VECTORS[:1], np.array([[1, 2]]), np.zeros((1, 2)), vectors_of, strength=1.0)
    assert moved[0][1] == pytest.approx(moved[0][2])
    assert moved[0][1] > 0
