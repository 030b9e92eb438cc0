"""OFA: a new piece is mixed of its nearest old pieces, in the leading directions of the old vectors.

    E    ~ F P,                 F = U_r S_r  [V, r],  P = V_r^T  [r, D]       E = U S V^T
    e'_t = e_t                  for shared pieces
    e'_t = ( sum_s w_ts f_s ) P for new ones,  w_t = softmax( cos(u'_t, u_s) / temperature )  over the k nearest s

`E[V, D]` old vectors, rows e_s; `e'[V', D]` new ones; `u`, `u'` both vocabularies' pieces in one space of static word
vectors (`transfer/words.py`). What pieces have in common lies in few directions, P, and is taken over as it is; only
coordinates in them are mixed. Without `rank` all directions are kept, and this is WECHSEL with shared pieces copied.

Where we depart from the paper or it is silent:
- The authors train on with coordinates and directions apart, which has fewer parameters. Here the product is given
  back: a model of the base's own architecture, which other libraries load. Shared pieces keep all their directions.
- The paper's word vectors are those of many languages in one space; see WECHSEL for ours.
- Pieces that no word tells of get the mean of their old pieces; the paper draws them from a normal distribution.

Example:
    >>> carried = carry(checkpoint, target, build_transfer(OfaConfig(rank=100)), texts, np.random.default_rng(0))

Citation: Liu, Lin, Wang, Schütze (2024), "OFA: A Framework of Initializing Unseen Subword Embeddings for Efficient
Large-scale Multilingual Continued Pretraining", Findings of NAACL, section 3.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from corpusmith.vocabulary.transfer.base import MixingTransfer, TransferInput, mix_or_draw
from corpusmith.vocabulary.transfer.config import OfaConfig
from corpusmith.vocabulary.transfer.correspondence import matching_pieces
from corpusmith.vocabulary.transfer.mixtures import copied, filled
from corpusmith.vocabulary.transfer.subword import completed
from corpusmith.vocabulary.transfer.wechsel import neighbour_weights


class Ofa(MixingTransfer):
    """Mixtures of the nearest old pieces, factorised; see the module's text."""

    def __init__(self, config: OfaConfig) -> None:
        self.config = config

    def weights(self, given: TransferInput) -> csr_array:
        """Copies of what is shared, and mixtures."""
        same = matching_pieces(given.source.tokenizer, given.target)
        return completed(filled(copied(same, len(given.vectors)), neighbour_weights(given, self.config)), given)

    def mixed(self, weights: csr_array, given: TransferInput) -> np.ndarray:
        """`float32[V', D]`, mixed of what the leading directions leave of the old vectors."""
        old = given.vectors
        vectors = mix_or_draw(weights, leading(old, self.config.rank), given)
        same = matching_pieces(given.source.tokenizer, given.target)
        vectors[same >= 0] = old[same[same >= 0]]
        return vectors


def leading(vectors: np.ndarray, rank: int | None) -> np.ndarray:
    """F P, the vectors `[V, D]` in their `rank` leading directions; themselves where it is None or D or more."""
    if rank is None or rank >= vectors.shape[1]:
        return vectors
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)  # V of the SVD, least first
    kept = directions[:, -rank:].astype(vectors.dtype)
    return (vectors @ kept) @ kept.T
