"""FOCUS: a new piece is a sparse mixture of the shared pieces that keep like company.

    e'_t = e_t                         for shared pieces
    e'_t = sum_s w_ts e_s              for new ones,    w_t = sparsemax( cos(v_t, v_s) over shared s )

`e[V, D]` old vectors, `e'[V', D]` new ones; `v[V', d]` static vectors of the target's pieces, from the corpus as the
target tokenizer cuts it (`vocabulary.static_vectors`). All weights come from one space and one language: nothing has to
be aligned, and how many shared pieces a new one is made of is decided by sparsemax.

Where we depart from the paper or it is silent:
- Static vectors are a factorisation, not fastText's; see there.
- New pieces too rare to have one get the mean of their old pieces; the paper draws them at random.
- What is shared: the same text at the same place in a word, however the two tokenizers write it; the paper also lets
  case and a leading space differ.

Example:
    >>> carried = carry(checkpoint, target, build_transfer(FocusConfig()), texts, np.random.default_rng(0))

Citation: Dobler, de Melo (2023), "FOCUS: Effective Embedding Initialization for Monolingual Specialization of
Multilingual Models", EMNLP, section 3.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from corpusmith.vocabulary.static_vectors import sampled, static_vectors
from corpusmith.vocabulary.transfer.base import MixingTransfer, TransferInput
from corpusmith.vocabulary.transfer.config import FocusConfig
from corpusmith.vocabulary.transfer.correspondence import matching_pieces
from corpusmith.vocabulary.transfer.mixtures import copied, filled, placed
from corpusmith.vocabulary.transfer.similarity import sparsemax_weights
from corpusmith.vocabulary.transfer.subword import completed


class Focus(MixingTransfer):
    """Sparsemax mixtures of shared pieces; see the module's text."""

    def __init__(self, config: FocusConfig) -> None:
        self.config = config

    def weights(self, given: TransferInput) -> csr_array:
        """Copies of what is shared, and mixtures of it."""
        same = matching_pieces(given.source.tokenizer, given.target)
        weights = copied(same, len(given.vectors))
        vectors = self._vectors(given)
        known = vectors.any(axis=1)
        shared, new = np.flatnonzero(known & (same >= 0)), np.flatnonzero(known & (same < 0))
        if len(shared):
            mixtures = sparsemax_weights(vectors[new], vectors[shared])
            weights = filled(weights, placed(mixtures, new, same[shared], weights.shape))
        return completed(weights, given)

    def _vectors(self, given: TransferInput) -> np.ndarray:
        """`float32[V', d]`, static vectors of the target's pieces; zeros for rare ones and special tokens."""
        config = self.config
        sequences = list(sampled(given.texts, given.target.encode, given.rng))
        vectors = static_vectors(
            sequences, given.target.size, config.dimensions, config.window, config.fewest, given.rng
        )
        vectors[given.target.special_ids] = 0
        return vectors
