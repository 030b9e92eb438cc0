"""A shuffled vector costs the decoder more: what it tells it has from the vector."""

from __future__ import annotations

import numpy as np
from benchmarks.claims.mechanics.vectors import own_and_others, sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.tsdae import TSDAE


def check(objective: TSDAE, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """`decoder_loss` and `decoder_loss_shuffled` of a sample."""
    inputs = objective.collate(sample(len(objective.rows), rng), rng).inputs
    return own_and_others(
        encoder, objective.pooling, inputs.left, lambda vectors: objective.decoder_loss(encoder, vectors, inputs)
    )
