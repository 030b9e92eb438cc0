"""Random vectors: the baseline that knows nothing.

    e'_t ~ N(0, sigma^2 I)        sigma: the model's `initializer_range`

`e'[V', D]`, the new vectors. Pieces that both vocabularies have keep their vectors unless `keep_shared` is off (the
baseline of WECHSEL's authors, which keeps a model's layers alone); special tokens keep theirs always.

Example:
    >>> carried = carry(checkpoint, target, build_transfer(RandomConfig()), texts, np.random.default_rng(0))

Citation: Devlin, Chang, Lee, Toutanova (2019), "BERT", and its code for the distribution.
"""

from __future__ import annotations

import numpy as np

from corpusmith.vocabulary.transfer.base import EmbeddingTransfer, TransferInput
from corpusmith.vocabulary.transfer.config import RandomConfig
from corpusmith.vocabulary.transfer.correspondence import matching_pieces, special_matches


class RandomVectors(EmbeddingTransfer):
    """Vectors drawn at random; see the module's text."""

    def __init__(self, config: RandomConfig) -> None:
        self.keeps_shared = config.keep_shared

    def embed(self, given: TransferInput) -> np.ndarray:
        """Draws, and copies of what is kept."""
        same = matching_pieces(given.source.tokenizer, given.target)
        if not self.keeps_shared:
            same = special_matches(same, given.target)
        shape = (given.target.size, given.vectors.shape[1])
        vectors = given.rng.normal(0.0, given.source.encoder.config.initializer_range, shape).astype(np.float32)
        vectors[same >= 0] = given.vectors[same[same >= 0]]
        return vectors
