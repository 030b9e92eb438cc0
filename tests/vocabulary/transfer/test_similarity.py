from __future__ import annotations

import numpy as np
import pytest

from corpusmith.vocabulary.transfer import similarity
from corpusmith.vocabulary.transfer.similarity import softmax_weights, sparsemax, sparsemax_weights


@pytest.fixture(params=[1, 2**24], ids=["row by row", "at once"])
def _held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "SCORES_HELD", request.param)


@pytest.mark.usefixtures("_held")
def test_softmax_weights_are_those_of_the_nearest_keys() -> None:
    rng = np.random.default_rng(0)
    queries, keys = rng.standard_normal((5, 3)), rng.standard_normal((7, 3))
    weights = softmax_weights(queries, keys, neighbours=2, temperature=0.5).toarray()
    for query, row in zip(queries, weights, strict=True):
        scores = keys @ query
        nearest = np.argsort(-scores)[:2]
        expected = np.zeros(7)
        expected[nearest] = np.exp(scores[nearest] / 0.5) / np.exp(scores[nearest] / 0.5).sum()
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_there_may_be_fewer_keys_than_neighbours_and_no_query() -> None:
    assert softmax_weights(np.ones((2, 3)), np.ones((1, 3)), 10, 0.1).toarray().tolist() == [[1.0], [1.0]]
    assert softmax_weights(np.ones((0, 3)), np.ones((4, 3)), 10, 0.1).shape == (0, 4)
    assert sparsemax_weights(np.ones((0, 3)), np.ones((4, 3))).shape == (0, 4)


@pytest.mark.usefixtures("_held")
def test_sparsemax_is_the_nearest_point_of_the_simplex() -> None:
    rng = np.random.default_rng(0)
    queries, keys = rng.standard_normal((20, 3)), rng.standard_normal((30, 3))
    scores, shares = queries @ keys.T, sparsemax_weights(queries, keys).toarray()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert shares.min() >= 0
    assert 1 <= (shares > 0).sum(axis=1).min() < (shares > 0).sum(axis=1).max() < 30
    for row, point in zip(scores, shares, strict=True):
        taus = (row - point)[point > 0]
        np.testing.assert_allclose(taus, taus[0])  # what the optimality conditions ask for
        assert row[point == 0].max() <= taus[0] + 1e-12


def test_sparsemax_of_equal_scores_is_even_and_of_a_clear_winner_all_its_own() -> None:
    np.testing.assert_allclose(
        sparsemax(np.array([[0.3, 0.3, 0.3, 0.3], [5.0, 1.0, 0.0, 0.0]])), [[0.25] * 4, [1, 0, 0, 0]]
    )
