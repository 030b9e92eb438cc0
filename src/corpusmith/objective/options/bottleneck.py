"""Options of objectives that rebuild a passage from its vector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from corpusmith.objective.options.language import MaskingConfig


class RetroMAEConfig(MaskingConfig):
    """RetroMAE: a weak decoder must rebuild the passage from its vector, so that the vector learns what it says."""

    kind: Literal["retromae"] = "retromae"
    """RetroMAE."""

    whole_words: bool = True
    """Hide all pieces of a word together, so that a word cannot be guessed from its other pieces."""

    visible_rate: float = Field(default=0.5, ge=0, lt=1)
    """Share of the other tokens that each position of the decoder sees beside the passage's vector. 0 to below 1;
    less makes the vector carry more."""

    visible: Literal["random", "pmi"] = "random"
    """Which of the other tokens. 'random': all alike. 'pmi': seldom those that tell most about their neighbours by
    pointwise mutual information over the corpus, so that the vector must say what they would have told."""
