"""Static vectors: one for each symbol (piece or word) of a corpus, alike where symbols keep like company.

    n(a, b) = sum over pairs at most w apart of (w + 1 - distance) / w          symmetric
    M(a, b) = max(0, log  n(a, b) / (n(a) p(b)) ),        p(b) = n(b)^0.75 / sum_c n(c)^0.75
    M       = U S V^T,        v_a = unit( (U S^0.5)_a - mean )

`M[V, V]` sparse, positive pointwise mutual information; `v[V, d]`, d leading singular vectors. This is the matrix that
word2vec factorises by stochastic steps (Levy and Goldberg), factorised once instead: the same corpus gives the same
vectors whatever the hash seed, a corpus of a few million tokens takes seconds, and scipy does the work (ARPACK). On
corpora as small as a domain's, word2vec's steps are too few to learn rare words.

Citation: Levy, Goldberg (2014), "Neural Word Embedding as Implicit Matrix Factorization", NIPS, sections 3 and 4; Levy,
Goldberg, Dagan (2015), "Improving Distributional Similarity with Lessons Learned from Word Embeddings", TACL (the 0.75
and the 0.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

MOST_TOKENS = 2**23
"""Tokens of a sample that are read; the rest of a larger one is left out."""

TEXTS_AT_ONCE = 256
CHUNK_TOKENS = 2**20
"""Tokens whose pairs are counted at a time."""

SMOOTHING = 0.75
"""Power of the counts of company: without it, rare company looks more telling than it is."""

SINGULAR_POWER = 0.5
"""Power of the singular values that scales the directions."""


def sampled(
    texts: Sequence[str], cut: Callable[[list[str]], Sequence[np.ndarray]], rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """What `cut` makes of texts in random order, until `MOST_TOKENS` symbols are read."""
    read, order = 0, rng.permutation(len(texts))
    for start in range(0, len(order), TEXTS_AT_ONCE):
        for symbols in cut([texts[i] for i in order[start : start + TEXTS_AT_ONCE]]):
            yield symbols
            read += len(symbols)
        if read >= MOST_TOKENS:
            return


def mutual_information(sequences: Sequence[np.ndarray], size: int, window: int, fewest: int) -> csr_array:
    """`float32[size, size]`, M of the module's text; symbols with fewer than `fewest` occurrences have empty rows.

    Args:
        sequences: symbols below `size`, one array a text; negative ones keep their place and are not counted.
        size: number of symbols.
        window: w, symbols on either side.
        fewest: occurrences.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    symbols = np.concatenate([np.empty(0, dtype=np.int64), *sequences]).astype(np.int64)
    texts = np.repeat(np.arange(len(lengths)), lengths)
    occurrences = np.bincount(symbols[symbols >= 0], minlength=size)
    is_counted = (symbols >= 0) & (occurrences[symbols] >= fewest)
    pairs = _pairs(symbols, texts, is_counted, size, window)
    pairs = (pairs + pairs.T).tocoo()
    totals = np.asarray(pairs.sum(axis=0)).ravel()
    smoothed = totals**SMOOTHING
    information = np.log(pairs.data * smoothed.sum() / (totals[pairs.row] * smoothed[pairs.col]))
    kept = information > 0
    entries = (information[kept].astype(np.float32), (pairs.row[kept], pairs.col[kept]))
    return csr_array(entries, shape=(size, size))


def _pairs(symbols: np.ndarray, texts: np.ndarray, is_counted: np.ndarray, size: int, window: int) -> csr_array:
    """`float64[size, size]`, weights of all pairs of counted symbols, the one on the left as the row."""
    found = csr_array((size, size), dtype=np.float64)
    for start in range(0, len(symbols), CHUNK_TOKENS):
        rows, columns, weights = [], [], []
        for distance in range(1, window + 1):
            left = np.arange(start, min(start + CHUNK_TOKENS, len(symbols) - distance))
            right = left + distance
            kept = is_counted[left] & is_counted[right] & (texts[left] == texts[right])
            rows.append(symbols[left[kept]])
            columns.append(symbols[right[kept]])
            weights.append(np.full(int(kept.sum()), (window + 1 - distance) / window))
        places = (np.concatenate(rows), np.concatenate(columns))
        found = csr_array(found + csr_array((np.concatenate(weights), places), shape=(size, size)))
    return found


def static_vectors(
    sequences: Sequence[np.ndarray],
    size: int,
    dimensions: int,
    window: int,
    fewest: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """`float32[size, d]`, vectors of length 1, or of zeros for symbols that are too rare; d is `dimensions`, or fewer
    where there are fewer symbols. Arguments as in `mutual_information`."""
    information = mutual_information(sequences, size, window, fewest)
    known = np.flatnonzero(np.diff(information.indptr))
    vectors = np.zeros((size, min(dimensions, max(1, len(known)))), dtype=np.float32)
    if len(known):
        found = _leading_directions(information[known][:, known], vectors.shape[1], rng)
        vectors[known] = unit(found - found.mean(axis=0))
    return vectors


def _leading_directions(matrix: csr_array, dimensions: int, rng: np.random.Generator) -> np.ndarray:
    """`float32[n, dimensions]`, U S^0.5 of the leading singular values of `matrix[n, n]`."""
    if dimensions < matrix.shape[0]:
        left, values, _ = svds(matrix, k=dimensions, v0=rng.standard_normal(matrix.shape[0]))
    else:  # as many directions as symbols: a small matrix, which ARPACK does not take
        left, values, _ = np.linalg.svd(matrix.toarray())
    return left * values**SINGULAR_POWER


def unit(vectors: np.ndarray) -> np.ndarray:
    """`[n, d]` scaled to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
