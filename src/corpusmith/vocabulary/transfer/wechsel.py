"""WECHSEL: every piece is mixed of the old pieces nearest to it in a space of static word vectors.

    e'_t = sum_s w_ts e_s,      w_t = softmax( cos(u'_t, u_s) / temperature )  over the k nearest old pieces s

`e[V, D]` old vectors, `e'[V', D]` new ones; `u[V, d]`, `u'[V', d]`: both vocabularies' pieces in one space, each the
mean of the words that contain it (`transfer/words.py`). Pieces that both vocabularies have are mixed anew as well:
across languages the same letters mean something else. Only special tokens are copied.

Where we depart from the paper or it is silent:
- The paper takes published word vectors of both languages and a dictionary. Here the vectors come from the corpus, and
  for a base model of another language from a text in it (`general`), aligned by the words that both share.
- Pieces are means of the words that contain them, which the paper does where vectors know no n-grams.
- Pieces that no word tells of keep their vectors where they are shared and get the mean of their old pieces elsewhere;
  the paper draws them at random.

Example:
    >>> carried = carry(checkpoint, target, build_transfer(WechselConfig()), texts, np.random.default_rng(0))

Citation: Minixhofer, Paischer, Rekabsaz (2022), "WECHSEL: Effective Initialization of Subword Embeddings for
Cross-Lingual Transfer of Monolingual Language Models", NAACL, section 3.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from corpusmith.vocabulary.transfer.base import MixingTransfer, TransferInput
from corpusmith.vocabulary.transfer.config import NeighboursConfig, WechselConfig
from corpusmith.vocabulary.transfer.correspondence import matching_pieces, special_matches
from corpusmith.vocabulary.transfer.mixtures import copied, filled, placed
from corpusmith.vocabulary.transfer.similarity import softmax_weights
from corpusmith.vocabulary.transfer.subword import completed
from corpusmith.vocabulary.transfer.words import piece_vectors


class Wechsel(MixingTransfer):
    """Mixtures of the nearest old pieces; see the module's text."""

    keeps_shared = False

    def __init__(self, config: WechselConfig) -> None:
        self.config = config

    def weights(self, given: TransferInput) -> csr_array:
        """Special tokens copied, all other pieces mixed."""
        same, pieces = matching_pieces(given.source.tokenizer, given.target), len(given.vectors)
        weights = filled(copied(special_matches(same, given.target), pieces), neighbour_weights(given, self.config))
        return completed(filled(weights, copied(same, pieces)), given)


def neighbour_weights(given: TransferInput, config: NeighboursConfig) -> csr_array:
    """`[V', V]`: softmax weights of the nearest old pieces, for pieces that have word vectors.

    Raises:
        CorpusError: `general` cannot be read, or has too few words in common with the corpus.
    """
    old, new = piece_vectors(given, config)
    known, wanted = np.flatnonzero(old.any(axis=1)), np.flatnonzero(new.any(axis=1))
    shape = (given.target.size, len(given.vectors))
    if len(known) == 0:
        return csr_array(shape)
    weights = softmax_weights(new[wanted], old[known], config.neighbours, config.temperature)
    return placed(weights, wanted, known, shape)
