"""Two readings of a passage under different dropout differ, and lie nearer to each other than to other passages."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.simcse import SimCSE

EXAMPLES = 64


@torch.no_grad()
def check(objective: SimCSE, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The mean cosine of two readings, that of readings of different passages, and how many find their counterpart."""
    number = len(objective.rows)
    batch = objective.collate(rng.choice(number, min(EXAMPLES, number), replace=False), rng)
    was_training, dropout = encoder.training, encoder.dropout
    encoder.train()
    encoder.dropout = objective.dropout
    try:
        torch.manual_seed(int(rng.integers(2**31)))
        vectors = torch.nn.functional.normalize(objective._encode(encoder, batch.inputs.pieces), dim=1)
    finally:
        encoder.train(was_training)
        encoder.dropout = dropout
    cosines = (vectors[: len(vectors) // 2] @ vectors[len(vectors) // 2 :].T).cpu()
    others = ~torch.eye(len(cosines), dtype=torch.bool)
    own, other = float(cosines.diagonal().mean()), float(cosines[others].mean())
    accuracy = float((cosines.argmax(dim=1) == torch.arange(len(cosines))).float().mean())
    holds = other < own < 0.9999 and accuracy > 0.8
    return {"own_cosine": own, "other_cosine": other, "accuracy": accuracy, "holds": holds}
