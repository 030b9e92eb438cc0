"""Partial whitening: directions along which all passages differ count less in dense search.

The vectors of sentence encoders spread mostly along a few directions, which decide inner products whether or not they
tell the passages of this corpus apart. Whitening gives all directions the same variance (Su, Cao, Liu & Ou 2021,
"Whitening sentence representations for better semantics and faster retrieval"; Huang et al. 2021, "WhiteningBERT").
With C the covariance of the passages' vectors, mapping both sides by C^(-a/2) turns the inner product q . p into
q . C^-a p: so it is enough to map queries by C^-a, and the passages' vectors stay as they are. A share `a` of 1 is full
whitening; usually less is better.

Two things of the papers are left out: the mean is not subtracted and passages are not brought to length 1 again. With
the mean subtracted, dense search lost two points on one of two collections and gained nothing on the other, and new
lengths were worth nothing that was to be seen in the fused ranking (docs/lab-notes.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SAMPLE = 20_000
"""Passages from which the covariance is estimated."""
FLOOR = 0.01
"""The least variance of a direction, as a share of the mean: some encoders leave one without any."""


class Spectrum(NamedTuple):
    """The covariance of vectors by its eigenvectors (columns, `[D, D]`) and their variances `[D]`, the mean one 1."""

    directions: np.ndarray
    variances: np.ndarray


def spectrum_of(vectors: np.ndarray) -> Spectrum | None:
    """The spectrum of `[N, D]` vectors; None where they do not differ."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(vectors.dtype) if len(vectors) else vectors
    variances, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    mean = variances.mean()
    if not mean > 0:
        return None
    return Spectrum(directions, np.maximum(variances / mean, FLOOR))


def whitened(queries: np.ndarray, spectrum: Spectrum, share: float) -> np.ndarray:
    """`[Q, D]` float32 queries mapped by C^-share, each as long as before."""
    directions, variances = spectrum
    mapped = (queries @ directions * variances**-share) @ directions.T
    lengths = [np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (queries, mapped)]
    return (mapped * np.divide(lengths[0], lengths[1], out=np.ones_like(mapped[:, :1]), where=lengths[1] > 0)).astype(
        np.float32
    )
