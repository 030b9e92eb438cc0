"""Matryoshka at work: the leading dimensions do better than as many of the last ones, at the narrowest width."""

from __future__ import annotations

import numpy as np
from benchmarks.claims.mechanics.sizes import TrailingView, loss_at, sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.matryoshka import Matryoshka


def check(objective: Matryoshka, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The inner objective's loss on leading and on trailing dimensions, and on all of them."""
    batch, narrowest = sample(objective, rng), min(objective.sizes)
    leading = loss_at(objective, encoder, batch, narrowest)
    trailing = loss_at(objective, encoder, batch, narrowest, TrailingView)
    whole = loss_at(objective, encoder, batch, (objective.layers, objective.width))
    return {"leading": leading, "trailing": trailing, "whole": whole, "holds": leading < trailing}
