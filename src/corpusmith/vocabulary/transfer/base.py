"""The embedding-transfer contract: vectors for a new vocabulary, made from those of an old one.

A transfer is given both tokenizers, the old vectors and a sample of the corpus, and gives one vector for every entry of
the new vocabulary. Everything else of a model that depends on the vocabulary (the output head's bias, special tokens,
sizes in configs, parts of objectives) is carried by `vocabulary.carry`, for all transfers alike. One file holds one
transfer; its options stand in `vocabulary/transfer/config.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.correspondence import ordinary_ids
from corpusmith.vocabulary.transfer.mixtures import drawn, is_empty, mix

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class TransferInput:
    """What a transfer may look at.

    Attributes:
        source: the model whose vectors are carried over; nobody changes it.
        target: the new tokenizer.
        texts: a sample of the corpus.
        rng: source of all randomness.
    """

    source: Checkpoint
    target: Tokenizer
    texts: Sequence[str]
    rng: np.random.Generator

    @property
    def vectors(self) -> np.ndarray:
        """`float32[V, D]`, the source's token embedding."""
        return self.source.encoder.token_embedding.weight.detach().cpu().numpy()


class EmbeddingTransfer(ABC):
    """Base of all transfers."""

    keeps_shared: bool = True
    """Whether pieces that both vocabularies have keep their vectors, bit by bit. Special tokens always do."""
    flops: float = 0.0
    """What the last `embed` spent in passes through the model."""
    learning_tokens: int = 0
    """Tokens that `embed` trains on, in 32 bits."""

    @abstractmethod
    def embed(self, given: TransferInput) -> np.ndarray:
        """`float32[V', D]`: a vector for each entry of the target vocabulary."""


class MixingTransfer(EmbeddingTransfer):
    """Base of transfers whose vectors are weighted means of old ones. The output head's bias is mixed by the same
    weights, so that a new piece's logit is the same mean of old logits."""

    @abstractmethod
    def weights(self, given: TransferInput) -> csr_array:
        """`float64[V', V]`: rows that sum to 1, or are empty where nothing is known of a piece: its vector is then
        drawn, spread as the old ones are, and its bias the mean of all."""

    def embed(self, given: TransferInput) -> np.ndarray:
        """The means by those weights."""
        return self.mixed(self.weights(given), given)

    def mixed(self, weights: csr_array, given: TransferInput) -> np.ndarray:
        """`float32[V', D]`, the old vectors mixed."""
        return mix_or_draw(weights, given.vectors, given)


def mix_or_draw(weights: csr_array, old: np.ndarray, given: TransferInput) -> np.ndarray:
    """`float32[V', D]`, the old vectors mixed, and drawn where a row has no weight: new pieces of which nothing is
    known (all of a script that the old tokenizer never saw) must not all be one."""
    ordinary = ordinary_ids(given.source.tokenizer)
    vectors, unknown = mix(weights, old, ordinary), is_empty(weights)
    if unknown.any():
        vectors[unknown] = drawn(old[ordinary], int(unknown.sum()), 1.0, given.rng)
    return vectors
