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

if TYPE_CHECKING:
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
    """Whether pieces that both vocabularies have keep their vectors, bit by bit."""

    @abstractmethod
    def embed(self, given: TransferInput) -> np.ndarray:
        """`float32[V', D]`: a vector for each entry of the target vocabulary."""
