"""The momentum encoder lags behind the encoder but agrees with it, and the queue is full of negatives that matter."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.contriever import Contriever

EXAMPLES = 64


@torch.no_grad()
def check(objective: Contriever, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The cosine of both encoders' vectors of the same crops, the share of the queue in use, and how many crops find
    their counterpart among the batch and the queue."""
    number = len(objective.rows)
    batch = objective.collate(rng.choice(number, min(EXAMPLES, number), replace=False), rng)
    own = objective._encode(encoder, batch.inputs.second)
    keys = objective._encode(objective.key_encoder, batch.inputs.second)
    cosine = float(torch.nn.functional.cosine_similarity(own, keys).mean())
    filled = float((objective.queue_documents >= 0).float().mean())
    accuracy = objective.loss(encoder, batch).parts["accuracy"]
    chance = 1 / (len(own) + filled * len(objective.queue))
    return {
        "cosine": cosine,
        "queue_filled": filled,
        "accuracy": accuracy,
        "chance": chance,
        "holds": bool(cosine > 0.9 and not torch.equal(own, keys) and filled > 0 and accuracy > 5 * chance),
    }
