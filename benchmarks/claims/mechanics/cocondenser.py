"""After coCondenser, spans of one document are each other's nearest neighbours among the spans of many documents."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from corpusmith.model.encoder import Encoder
from corpusmith.model.pooling import pool
from corpusmith.objective.cocondenser import CoCondenser

DOCUMENTS = 64
MOSTLY = 0.5


def check(objective: CoCondenser, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Share of spans, nothing hidden in them, whose nearest neighbour is the other span of their document."""
    examples = rng.choice(len(objective.bounds), min(DOCUMENTS, len(objective.bounds)), replace=False)
    vectors = []
    with torch.no_grad():
        for inputs in objective.collate(examples, rng).inputs:
            inputs.packed.ids[inputs.places] = inputs.targets
            packed = inputs.packed.to(next(encoder.parameters()).device)
            vectors.append(pool(encoder(packed), packed, objective.pooling))
    joined = F.normalize(torch.cat(vectors), dim=1) if objective.normalize else torch.cat(vectors)
    nearest = (joined @ joined.T).fill_diagonal_(-torch.inf).argmax(dim=1).cpu().numpy()
    places = np.arange(len(nearest))
    found = float(np.mean(nearest == places ^ 1))
    return {"partner_nearest": found, "by_chance": 1 / (len(nearest) - 1), "holds": found > MOSTLY}
