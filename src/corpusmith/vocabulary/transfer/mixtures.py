"""Mixtures: each new vector a weighted mean of old ones, kept as one sparse row of weights."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, diags_array


def mix(weights: csr_array, values: np.ndarray, ordinary: np.ndarray) -> np.ndarray:
    """The values `[V]` or `[V, D]` mixed by the rows of `weights[V', V]`: `[V']` or `[V', D]`, in their own dtype.

    An empty row gives the mean of the values of the `ordinary` pieces (`int64[n]`).
    """
    mixed = weights @ values
    mixed[is_empty(weights)] = values[ordinary].mean(axis=0, dtype=np.float64)
    return mixed.astype(values.dtype)


def drawn(old: np.ndarray, number: int, covariance: float, rng: np.random.Generator) -> np.ndarray:
    """`float64[number, D]` around the mean of the old vectors `[V, D]`, spread as they are, times `covariance`."""
    old = old.astype(np.float64)
    middle = old.mean(axis=0)
    vectors = np.repeat(middle[None], number, axis=0)
    if covariance > 0:
        # With X - mu = Q R, rows g R / sqrt(n) have the covariance of X where g ~ N(0, I).
        spread = np.linalg.qr(old - middle, mode="r") * np.sqrt(covariance / len(old))
        vectors += rng.standard_normal((number, len(spread))) @ spread
    return vectors


def is_empty(weights: csr_array) -> np.ndarray:
    """`bool[V']`, which rows have no weight."""
    return np.diff(weights.indptr) == 0


def copied(same: np.ndarray, pieces: int) -> csr_array:
    """`[V', pieces]`: all weight on the entry that `same[V']` names, an empty row where that is -1."""
    rows = np.flatnonzero(same >= 0)
    return csr_array((np.ones(len(rows)), (rows, same[rows])), shape=(len(same), pieces))


def placed(weights: csr_array, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_array:
    """The rows and columns of a smaller matrix at these places of a larger one; columns may repeat and are summed."""
    entries = weights.tocoo()
    return csr_array((entries.data, (rows[entries.row], columns[entries.col])), shape=shape)


def filled(weights: csr_array, other: csr_array) -> csr_array:
    """The weights, and where a row is empty that of the other."""
    return csr_array(weights + diags_array(is_empty(weights).astype(np.float64)) @ other)
