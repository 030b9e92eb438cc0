"""Starbucks at work: every size, the smallest included, gains over a model that says nothing. The small sizes of an
encoder that was not trained so do worse than that: with all-MiniLM-L6-v2 the two smallest have shares of about -0.5."""

from __future__ import annotations

import numpy as np
from benchmarks.claims.mechanics.sizes import kept, sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.starbucks import Starbucks


def check(objective: Starbucks, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Each size's share of the whole model's gain over saying nothing."""
    shares = kept(objective, encoder, sample(objective, rng), objective.sizes)
    figures: dict[str, float | bool] = {
        f"layers_{layers}_dimension_{dimension}": share
        for (layers, dimension), share in zip(objective.sizes, shares, strict=True)
    }
    return figures | {"holds": min(shares) > 0}
