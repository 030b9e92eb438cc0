"""Options of objectives that read a query and a passage together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from corpusmith.objective.options.base import Need, ObjectiveOptions
from corpusmith.objective.options.language import MaskingConfig


class PropConfig(MaskingConfig):
    """PROP: of two sets of words, the one that the passage's own words make likelier gets the higher score."""

    kind: Literal["prop"] = "prop"
    """PROP, representative words prediction."""

    masking_rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of a passage's tokens that the encoder must predict (special tokens apart). Above 0, below 1."""

    set_length: float = Field(default=3.0, gt=0, le=100)
    """Mean of the Poisson distribution from which the number of words of a set is drawn. Words, above 0, at most 100; a
    set has one word at least."""

    smoothing: float = Field(default=1.0, gt=0)
    """Words of the corpus mixed into a passage's word distribution (the Dirichlet prior), in mean passage lengths.
    Above 0; with 1, a passage of mean length gives half of the words of its sets."""

    common_share: float = Field(default=0.1, gt=0, le=1)
    """Words that more than this share of the passages hold are in no set: they would be likely everywhere. Above 0, at
    most 1."""

    margin: float = Field(default=1.0, gt=0)
    """By how much the likelier set's score must be the higher one. Above 0."""


class RerankingConfig(ObjectiveOptions):
    """Reranking: a cross-encoder scores a query's own passage above the passages mined for it. For judged pairs
    (`pairs.source = "labels"`)."""

    kind: Literal["reranking"] = "reranking"
    """Reranking with a cross-encoder."""

    negatives: int = Field(default=7, ge=1)
    """Mined negatives drawn for each query, of those the pairs have. 1 or more; each is read with the query."""

    def needs(self) -> frozenset[Need]:
        """Pairs."""
        return frozenset({"pairs"})
