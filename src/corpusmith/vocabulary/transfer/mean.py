"""Mean vector: new pieces begin at the middle of the old ones.

    e'_t = mu                              covariance = 0
    e'_t ~ N(mu, covariance * Sigma)       mu, Sigma: mean and covariance of the old vectors

`e'[V', D]`, new vectors; `mu[D]`, `Sigma[D, D]`. At the mean a new piece's logit is the mean of the old ones, so that
it cannot take over the softmax as a random vector may. Drawn with the full covariance new pieces are told apart from
the start and look to the model like old ones. Pieces that both vocabularies have keep their vectors.

Where we depart from the paper or it is silent:
- The covariance's factor is an option; the references take 1e-5 and 1.
- Special tokens are left out of mean and covariance: they stand far from all others.

Example:
    >>> carried = carry(checkpoint, target, build_transfer(MeanConfig()), texts, np.random.default_rng(0))

Citation: Hewitt (2021), "Initializing New Word Embeddings for Pretrained Language Models" (a note); Mundra, Kishore,
Dabre, Puduppully, Kunchukuttan, Khapra (2024), "An Empirical Comparison of Vocabulary Expansion and Initialization
Approaches for Language Models", CoNLL (the multivariate baseline).
"""

from __future__ import annotations

import numpy as np

from corpusmith.vocabulary.transfer.base import EmbeddingTransfer, TransferInput
from corpusmith.vocabulary.transfer.config import MeanConfig
from corpusmith.vocabulary.transfer.correspondence import matching_pieces, ordinary_ids
from corpusmith.vocabulary.transfer.mixtures import drawn


class MeanVector(EmbeddingTransfer):
    """The old vectors' mean, or draws around it; see the module's text."""

    def __init__(self, config: MeanConfig) -> None:
        self.config = config

    def embed(self, given: TransferInput) -> np.ndarray:
        """The mean or draws, and copies of what is shared."""
        same = matching_pieces(given.source.tokenizer, given.target)
        old = given.vectors[ordinary_ids(given.source.tokenizer)]
        vectors = drawn(old, given.target.size, self.config.covariance, given.rng).astype(np.float32)
        vectors[same >= 0] = given.vectors[same[same >= 0]]
        return vectors
