"""Passages with replaced tokens hold no mask token, and a shuffled vector costs the decoder more."""

from __future__ import annotations

import numpy as np
from benchmarks.claims.mechanics.vectors import own_and_others, sample

from corpusmith.model.encoder import Encoder
from corpusmith.objective.simlm import SimLM


def check(objective: SimLM, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """`decoder_loss` and `decoder_loss_shuffled` of a sample, the number of `mask_tokens` that the encoder reads, and
    `replaced`, the share of tokens that are not the original ones."""
    batch = objective.collate(sample(len(objective.rows), rng), rng)
    inputs = batch.inputs
    changed = objective.changed(encoder, inputs.encoder)
    found = own_and_others(
        encoder, objective.pooling, changed, lambda vectors: objective.decoder_loss(encoder, vectors, inputs)
    )
    mask_tokens = int((changed.ids == objective.tokenizer.mask).sum())
    replaced = float((changed.ids.cpu()[inputs.places] != inputs.targets).float().mean())
    holds = bool(found["holds"]) and mask_tokens == 0
    return found | {"mask_tokens": mask_tokens, "replaced": replaced, "holds": holds}
