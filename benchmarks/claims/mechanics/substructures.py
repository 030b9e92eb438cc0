"""Training of sub-structures at work: every part of the model from below gains over one that says nothing."""

from __future__ import annotations

import numpy as np
from benchmarks.claims.mechanics.sizes import kept, sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.substructures import Substructures


def check(objective: Substructures, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Each part's share of the whole model's gain over saying nothing."""
    parts = objective.borders[1:]
    shares = kept(objective, encoder, sample(objective, rng), [(layers, objective.width) for layers in parts])
    figures: dict[str, float | bool] = {f"layers_{layers}": share for layers, share in zip(parts, shares, strict=True)}
    return figures | {"holds": min(shares) > 0}
