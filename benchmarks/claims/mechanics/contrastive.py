"""A query finds its own passage among the passages of other queries."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.contrastive import Contrastive

PAIRS = 64


@torch.no_grad()
def check(objective: Contrastive, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """How many of a sample's queries find their own passage first, and how many would by chance."""
    number = len(objective.lengths())
    batch = objective.collate(rng.choice(number, min(PAIRS, number), replace=False), rng)
    accuracy = objective.loss(encoder, batch).parts["accuracy"]
    chance = 1 / batch.inputs.excluded.shape[1]
    return {"accuracy": accuracy, "chance": chance, "holds": accuracy > 5 * chance}
