"""Hidden by mutual information, a passage is harder to rebuild than at random with as much hidden."""

from __future__ import annotations

import copy

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.pooling import pool
from corpusmith.objective.retromae import RetroMAE

PASSAGES = 64


@torch.no_grad()
def check(objective: RetroMAE, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The decoder's loss under both kinds of masks, and the share of positions that each lets the decoder see."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    seed = int(rng.integers(2**31))
    at_random = copy.copy(objective)
    at_random.pairs = None
    found: dict[str, float | bool] = {}
    for name, kind in (("pmi", objective), ("random", at_random)):
        inputs = kind.collate(examples, np.random.default_rng(seed)).inputs
        packed = inputs.encoder.packed.to(next(encoder.parameters()).device)
        vectors = pool(encoder(packed), packed, objective.pooling)
        found[f"{name}_loss"] = float(kind.decoder_loss(encoder, vectors, inputs))
        others = sum((length - 1) ** 2 for length in inputs.original.lengths.tolist())
        found[f"{name}_seen"] = float(inputs.visible[:, 1:, 1:].sum()) / others
    return found | {"holds": found["pmi_loss"] > found["random_loss"]}
