import numpy as np
import pytest

from corpusmith.retrieval import smoothing
from corpusmith.retrieval.smoothing import smoothed


def unit(*angles: float) -> np.ndarray:
    """`[1, K, 2]` vectors at these angles, in degrees."""
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)[None].astype(np.float32)


def test_a_document_among_others_that_score_well_gains_on_one_alone() -> None:
    scores = np.array([[1.0, 0.6, 0.58]], dtype=np.float32)
    found = np.ones((1, 3), dtype=bool)
    new = smoothed(scores, unit(0, 80, 10), found, 0.5)
    assert new[0, 2] > new[0, 1], "the third is near the first, the second is not"


def test_scores_are_the_share_of_their_own_and_the_mean_of_the_neighbours() -> None:
    vectors = unit(0, 20, 50)
    cosines = (vectors[0] @ vectors[0].T) ** smoothing.SHARPNESS
    np.fill_diagonal(cosines, 0)
    scores = np.array([[0.9, 0.5, 0.1]], dtype=np.float32)
    expected = 0.7 * scores[0] + 0.3 * (cosines @ scores[0]) / cosines.sum(axis=1)
    assert smoothed(scores, vectors, np.ones((1, 3), dtype=bool), 0.3)[0] == pytest.approx(expected, abs=1e-6)


def test_only_the_nearest_neighbours_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "NEIGHBOURS", 1)
    scores = np.array([[1.0, 0.5, 0.2, 0.1]], dtype=np.float32)
    new = smoothed(scores, unit(0, 10, 25, 60), np.ones((1, 4), dtype=bool), 1.0)
    assert new[0] == pytest.approx([0.5, 1.0, 0.5, 0.2])


def test_padding_and_lonely_documents_keep_their_scores() -> None:
    scores = np.array([[0.9, 0.4, -np.inf], [0.9, -np.inf, -np.inf]], dtype=np.float32)
    found = np.isfinite(scores)
    vectors = np.concatenate([unit(0, 90, 0), unit(0, 0, 0)])
    assert np.allclose(smoothed(scores, vectors, found, 0.5), scores, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (2, 1)])
def test_there_may_be_nothing_to_smooth(shape: tuple[int, int]) -> None:
    scores = np.ones(shape, dtype=np.float32)
    new = smoothed(scores, np.ones((*shape, 4), dtype=np.float32), np.ones(shape, dtype=bool), 0.5)
    assert new.shape == shape
    assert (new == 1).all()
