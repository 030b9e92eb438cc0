"""Condenser's head names hidden tokens with the help of the passage's own vector: the vector carries something."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.pooling import pool
from corpusmith.objective.condenser import Condenser

PASSAGES = 64
BELOW = 0.97


def check(objective: Condenser, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The head's loss with a passage's own vector, and with another passage's, the early states being the same."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    (inputs,) = objective.collate(examples, rng).inputs
    device = next(encoder.parameters()).device
    packed, places = inputs.packed.to(device), inputs.places.to(device)
    losses = []
    with torch.no_grad():
        early, late = encoder.hidden_states(packed, (objective.early_layers, encoder.config.layers))
        vectors = pool(late, packed, objective.pooling)
        for given in (vectors, vectors.roll(1, dims=0)):
            rebuilt = objective.decoder(given, early, packed, encoder.compute_dtype)[places]
            losses.append(objective.naming_loss(encoder, late[places], rebuilt, inputs.targets).parts["head"])
    own, others = losses
    return {"own_vector_loss": own, "others_vector_loss": others, "holds": own < BELOW * others}
