"""Options of objectives that rebuild a passage from its vector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from corpusmith.objective.options.language import MaskingConfig


class WholeWordMasking(MaskingConfig):
    """Masking, of whole words unless said otherwise."""

    whole_words: bool = True
    """Hide all pieces of a word together, so that a word cannot be guessed from its other pieces."""


class EnhancedDecoding(WholeWordMasking):
    """Masking, and what a decoder sees that must rebuild the whole passage."""

    visible_rate: float = Field(default=0.5, ge=0, lt=1)
    """Share of the other tokens that each position of the decoder sees beside the passage's vector. 0 to below 1;
    less makes the vector carry more."""

    visible: Literal["random", "pmi"] = "random"
    """Which of the other tokens. 'random': all alike. 'pmi': seldom those that tell most about their neighbours by
    pointwise mutual information over the corpus, so that the vector must say what they would have told."""


class RetroMAEConfig(EnhancedDecoding):
    """RetroMAE: a weak decoder must rebuild the passage from its vector, so that the vector learns what it says."""

    kind: Literal["retromae"] = "retromae"
    """RetroMAE."""


class DupMAEConfig(EnhancedDecoding):
    """DupMAE (RetroMAE v2): RetroMAE, and the states of a passage's tokens must together name its words."""

    kind: Literal["dupmae"] = "dupmae"
    """DupMAE, which its authors also call RetroMAE v2."""

    bag_weight: float = Field(default=1.0, gt=0)
    """Weight of naming the passage's words beside RetroMAE's two losses. Above 0."""


class BagOfWordsConfig(WholeWordMasking):
    """Bag-of-words prediction: a passage's vector must name the passage's tokens, with no decoder between."""

    kind: Literal["bag_of_words"] = "bag_of_words"
    """Bag-of-words prediction."""


class EarlyLateMasking(WholeWordMasking):
    """Masking, and the head that names hidden tokens from states of an early and a late layer."""

    masking_rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of a passage's tokens that must be predicted (special tokens apart). Above 0, below 1."""

    early_layers: int | None = Field(default=None, ge=0)
    """Layers of the encoder after which the head takes the tokens' states: 0 (the embeddings) up to one less than the
    encoder has. Half of the layers where nothing is said."""

    head_layers: int = Field(default=2, ge=1)
    """Layers of the head that joins the vector and the early states. 1 or more."""


class CondenserConfig(EarlyLateMasking):
    """Condenser: hidden tokens are named a second time from the passage's vector and the states of an early layer, so
    that what later layers find must go through the vector."""

    kind: Literal["condenser"] = "condenser"
    """Condenser."""


class CoCondenserConfig(EarlyLateMasking):
    """coCondenser: Condenser on two spans of each document, whose vectors must lie nearer to each other than to those
    of other documents' spans."""

    kind: Literal["cocondenser"] = "cocondenser"
    """coCondenser."""

    span_tokens: int = Field(default=128, ge=4)
    """Tokens of a span; of a shorter document each span takes half. 4 or more; the model's longest sequence limits
    it."""

    temperature: float = Field(default=0.05, gt=0)
    """Inner products of vectors are divided by it before the softmax. Above 0; 1 for a model whose vectors are not of
    unit length, as in the paper."""

    recompute_above: int = Field(default=16384, ge=1)
    """Batches of more tokens are encoded in pieces of about this size whose activations are computed a second time
    in the backward pass: a quarter slower, and memory no longer grows with the batch. Tokens."""
