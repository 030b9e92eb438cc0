"""Constrained word2vec: a new piece lies in the convex hull of the old ones, where it tells best what stands near it.

    M[V', V']   positive mutual information of the target's pieces in the corpus (`vocabulary.static_vectors`)
    C           = argmin sum_s |e_s C - M_s|^2 + ridge |C|^2                   s: shared pieces; C[D, V']
    e'_t        = sum_s w_ts e_s,    w_t = argmin |e'_t C - M_t|^2             w_t >= 0, sums to 1

`e[V, D]` old vectors, `e'[V', D]` new ones; both sides of the fit are centred on the shared pieces. C says how the
model's vectors tell a piece's company: it is learned from the shared pieces, whose vectors are fixed. New vectors are
fitted to their own company under the constraint that they stay in the hull. No new piece's logit is then above the
highest old one, and what the model says of old pieces changes little. One language and one text are enough.

Where we depart from the paper or it is silent:
- The paper learns the weights, rows of a softmax, by stochastic steps of word2vec with negative samples. Word2vec
  factorises the mutual information of pieces and company (Levy and Goldberg 2014), so here its least-squares form is
  solved: C in closed form, the weights by the steps of Frank and Wolfe, each of which adds one old piece to a mixture.
  Nothing has to be tuned, V' x V weights are never held, and mixtures are sparse.
- The paper's company has the vectors of its pieces; here it has vectors of its own, C, as word2vec's usually has.
- New pieces too rare to have company get the mean of their old pieces, which lies in the hull as well.

Example:
    >>> carried = carry(checkpoint, target, build_transfer(ConvexConfig()), texts, np.random.default_rng(0))

Citation: Mundra, Kishore, Dabre, Puduppully, Kunchukuttan, Khapra (2024), "An Empirical Comparison of Vocabulary
Expansion and Initialization Approaches for Language Models", CoNLL, sections 3 and 4; Frank, Wolfe (1956), "An
Algorithm for Quadratic Programming", Naval Research Logistics Quarterly.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from corpusmith.vocabulary.static_vectors import mutual_information, sampled
from corpusmith.vocabulary.transfer.base import MixingTransfer, TransferInput
from corpusmith.vocabulary.transfer.config import ConvexConfig
from corpusmith.vocabulary.transfer.correspondence import matching_pieces
from corpusmith.vocabulary.transfer.mixtures import copied, filled, placed
from corpusmith.vocabulary.transfer.similarity import SCORES_HELD
from corpusmith.vocabulary.transfer.subword import completed

RIDGE = 0.1
"""Penalty on C, as a share of the mean eigenvalue of the shared vectors' products."""


class Convex(MixingTransfer):
    """Convex combinations that tell the company of new pieces; see the module's text."""

    def __init__(self, config: ConvexConfig) -> None:
        self.config = config

    def weights(self, given: TransferInput) -> csr_array:
        """Copies of what is shared, and convex combinations of it."""
        same = matching_pieces(given.source.tokenizer, given.target)
        weights = copied(same, len(given.vectors))
        company = self._company(given)
        known = np.diff(company.indptr) > 0
        known[given.target.special_ids] = False
        shared, new = np.flatnonzero(known & (same >= 0)), np.flatnonzero(known & (same < 0))
        if len(shared) and len(new):
            corners, wanted = fitted(given.vectors[same[shared]], company[shared], company[new])
            mixtures = nearest_in_hull(corners, wanted, self.config.steps)
            weights = filled(weights, placed(mixtures, new, same[shared], weights.shape))
        return completed(weights, given)

    def _company(self, given: TransferInput) -> csr_array:
        sequences = list(sampled(given.texts, given.target.encode, given.rng))
        return mutual_information(sequences, given.target.size, self.config.window, self.config.fewest)


def fitted(vectors: np.ndarray, company: csr_array, new: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Where shared pieces stand and where new ones should, in a space whose distances are those of their company:
    `|e C - M_t|^2` is the squared distance of the two, but for a number that depends on t alone.

    Args:
        vectors: `float32[n, D]`, of the shared pieces.
        company: `[n, V']`, M of the shared pieces.
        new: `[m, V']`, M of the new ones.

    Returns:
        `float32[n, D]` and `float32[m, D]`.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    usual = np.asarray(company.mean(axis=0)).ravel()
    telling = np.linalg.solve(_raised(centred.T @ centred, RIDGE), (company.T @ centred).T)  # C, [D, V']
    root = np.linalg.cholesky(_raised(telling @ telling.T, 1e-6))
    asked = (new @ telling.T) - telling @ usual
    return (centred @ root).astype(np.float32), np.linalg.solve(root, asked.T).T.astype(np.float32)


def _raised(products: np.ndarray, share: float) -> np.ndarray:
    """A symmetric matrix `[D, D]` with this share of its mean eigenvalue added to each of them."""
    size = len(products)
    return products + (share * np.trace(products) / size + np.finfo(np.float64).tiny) * np.eye(size)


def nearest_in_hull(corners: np.ndarray, wanted: np.ndarray, steps: int) -> csr_array:
    """`float64[m, n]`: for each of `wanted[m, D]` the weights of the nearest point in the hull of `corners[n, D]`, as
    far as `steps` steps of Frank and Wolfe from the nearest corner reach it."""
    everyone = np.arange(len(wanted))
    chosen = np.empty((len(wanted), steps + 1), dtype=np.int64)
    shares = np.zeros((len(wanted), steps + 1))
    lengths = (corners**2).sum(axis=1) / 2
    chosen[:, 0], shares[:, 0] = _furthest_along(corners, wanted, lengths), 1.0
    points = corners[chosen[:, 0]]
    for step in range(1, steps + 1):
        missing = wanted - points
        chosen[:, step] = _furthest_along(corners, missing, np.zeros_like(lengths))
        towards = corners[chosen[:, step]] - points
        squares = (towards**2).sum(axis=1)
        progress = np.divide((missing * towards).sum(axis=1), squares, out=np.zeros_like(squares), where=squares > 0)
        progress = np.clip(progress, 0.0, 1.0)
        points = points + progress[:, None] * towards
        share = progress.astype(np.float64)  # rounded to float32, a thousand steps' weights would not sum to 1
        shares *= 1 - share[:, None]
        shares[everyone, step] = share
    rows = np.repeat(everyone, steps + 1)
    weights = csr_array((shares.ravel(), (rows, chosen.ravel())), shape=(len(wanted), len(corners)))
    weights.eliminate_zeros()
    return weights


def _furthest_along(corners: np.ndarray, directions: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`int64[m]`: for each of `directions[m, D]` the corner with the largest inner product less its offset `[n]`."""
    rows = max(1, SCORES_HELD // len(corners))
    blocks = (directions[start : start + rows] for start in range(0, len(directions), rows))
    return np.concatenate([(block @ corners.T - offsets).argmax(axis=1) for block in blocks])
