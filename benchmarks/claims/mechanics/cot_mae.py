"""The vector of a span's neighbour helps to restore it more than that of a span from elsewhere."""

from __future__ import annotations

import numpy as np
from benchmarks.claims.mechanics.vectors import own_and_others, sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.cot_mae import CoTMAE


def check(objective: CoTMAE, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """`decoder_loss` and `decoder_loss_shuffled` of a sample."""
    inputs = objective.collate(sample(len(objective.pairs), rng), rng).inputs
    return own_and_others(
        encoder,
        objective.pooling,
        inputs.encoder.packed,
        lambda vectors: objective.decoder_loss(encoder, vectors, inputs),
    )
