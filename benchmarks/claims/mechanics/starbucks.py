"""Starbucks at work: of its sizes, the one in the middle and all larger ones gain at least half of what the whole model
gains."""

from __future__ import annotations

import numpy as np
from benchmarks.claims.mechanics.sizes import kept, sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.starbucks import Starbucks

LEAST = 0.5


def check(objective: Starbucks, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Each size's share of the whole model's gain over saying nothing."""
    shares = kept(objective, encoder, sample(objective, rng), objective.sizes)
    figures: dict[str, float | bool] = {
        f"layers_{layers}_dimension_{dimension}": share
        for (layers, dimension), share in zip(objective.sizes, shares, strict=True)
    }
    middle = (len(shares) - 1) // 2
    return figures | {"holds": min(shares[middle:]) >= LEAST}
