"""The text around a span finds the passage in which the span recurs before one of the same document without it."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.spider import Spider

EXAMPLES = 32


@torch.no_grad()
def check(objective: Spider, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """How many queries of a sample lie nearer to their positive than to the negative of their own document, and how
    many find it first among all candidates of the sample."""
    number = len(objective.spans)
    examples = rng.choice(number, min(EXAMPLES, number), replace=False)
    alone = [objective.collate([example], rng) for example in examples]
    nearer = [objective.loss(encoder, batch).parts["accuracy"] for batch in alone if batch.inputs.excluded.shape[1] > 1]
    together = objective.collate(examples, rng)
    accuracy = objective.loss(encoder, together).parts["accuracy"]
    chance = 1 / together.inputs.excluded.shape[1]
    mean = float(np.mean(nearer)) if nearer else 1.0
    return {
        "nearer_than_own_negative": mean,
        "accuracy": accuracy,
        "chance": chance,
        "holds": mean > 0.6 and accuracy > 5 * chance,
    }
