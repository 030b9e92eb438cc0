"""2DMSE at work: half the layers with a quarter of the dimensions gain at least half of what the whole model gains."""

from __future__ import annotations

import numpy as np
from benchmarks.claims.mechanics.sizes import kept, sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.matryoshka_2d import Matryoshka2d

LEAST = 0.5


def check(objective: Matryoshka2d, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Shares of the whole model's gain over saying nothing: of few layers, of few dimensions, of few of both."""
    layers, width = max(1, objective.layers // 2), max(1, objective.width // 4)
    sizes = [(layers, objective.width), (objective.layers, width), (layers, width)]
    shallow, narrow, small = kept(objective, encoder, sample(objective, rng), sizes)
    return {"shallow": shallow, "narrow": narrow, "shallow_and_narrow": small, "holds": small >= LEAST}
