"""Partial whitening of queries."""

from __future__ import annotations

import numpy as np
import pytest

from corpusmith.retrieval.whitening import FLOOR, spectrum_of, whitened

SCALES = np.array([4.0, 2.0, 1.0, 0.5])


@pytest.fixture
def vectors() -> np.ndarray:
    """2,000 vectors whose directions, turned by chance, have the standard deviations `SCALES`."""
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    return (rng.normal(size=(2000, 4)) * SCALES @ turned + 3).astype(np.float32)


def test_the_spectrum_is_that_of_the_covariance(vectors: np.ndarray) -> None:
    found = spectrum_of(vectors)
    assert found is not None
    covariance = np.cov(vectors.T)
    rebuilt = found.directions @ np.diag(found.variances) @ found.directions.T
    np.testing.assert_allclose(rebuilt * np.trace(covariance) / 4, covariance, atol=1e-3)
    assert found.variances.mean() == pytest.approx(1)


def test_at_one_all_directions_have_the_same_variance(vectors: np.ndarray) -> None:
    spectrum = spectrum_of(vectors)
    assert spectrum is not None
    product = whitened(np.eye(4, dtype=np.float32), spectrum, 1.0) @ np.cov(vectors.T)
    np.testing.assert_allclose(product / np.diag(product)[:, None], np.eye(4), atol=1e-3)


def test_queries_keep_their_lengths_and_share_zero_their_directions(vectors: np.ndarray) -> None:
    spectrum = spectrum_of(vectors)
    assert spectrum is not None
    queries = np.concatenate([vectors[:5], np.zeros((1, 4), dtype=np.float32)])
    for share in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(
            np.linalg.norm(whitened(queries, spectrum, share), axis=1), np.linalg.norm(queries, axis=1), rtol=1e-5
        )
    np.testing.assert_allclose(whitened(queries, spectrum, 0.0), queries, rtol=1e-4, atol=1e-5)
    assert np.abs(whitened(queries, spectrum, 0.3)[:5] - queries[:5]).max() > 0.1


def test_a_direction_without_variance_is_not_blown_up(vectors: np.ndarray) -> None:
    vectors[:, 2] = 0.25
    spectrum = spectrum_of(vectors)
    assert spectrum is not None
    assert spectrum.variances.min() == pytest.approx(FLOOR)
    assert np.isfinite(whitened(vectors[:3], spectrum, 1.0)).all()


@pytest.mark.parametrize("number", [0, 1, 7])
def test_vectors_that_do_not_differ_have_no_spectrum(number: int) -> None:
    assert spectrum_of(np.full((number, 3), 0.5, dtype=np.float32)) is None
