"""The decoder needs the passage's own vector: with another passage's it rebuilds far worse."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.pooling import pool
from corpusmith.objective.retromae import RetroMAE

PASSAGES = 64
FAR_BELOW = 0.9


@torch.no_grad()
def check(objective: RetroMAE, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The decoder's loss on a sample, with each passage's vector and with that of the next one."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    inputs = objective.collate(examples, rng).inputs
    packed = inputs.encoder.packed.to(next(encoder.parameters()).device)
    vectors = pool(encoder(packed), packed, objective.pooling)
    own = float(objective.decoder_loss(encoder, vectors, inputs))
    others = float(objective.decoder_loss(encoder, vectors.roll(1, dims=0), inputs))
    return {"own_vector_loss": own, "others_vector_loss": others, "holds": own < FAR_BELOW * others}
