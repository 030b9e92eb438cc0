"""Within a turn the queue holds what the fixed encoder would compute at any later step of it."""

from __future__ import annotations

import copy

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.laprador import LaPraDoR

EXAMPLES = 32
TOLERANCE = 1e-4


@torch.no_grad()
def check(objective: LaPraDoR, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The largest difference between queued and freshly computed vectors after the encoder has moved, and how far it
    has moved them itself."""
    objective, encoder = copy.deepcopy(objective), copy.deepcopy(encoder)
    objective.empty_queue()
    count = min(EXAMPLES, len(objective.rows), len(objective.queue))
    batch = objective.collate(rng.choice(len(objective.rows), count, replace=False), rng)
    objective.loss(encoder, batch)
    objective.enqueue_latest()
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    for parameter in encoder.parameters():  # what a step does, and more
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        parameter += 0.05 * parameter.abs().mean() * noise
    texts = batch.inputs.first if objective.swapped else batch.inputs.second
    queued = objective.queue[:count]
    fresh = float((objective._encode(objective.key_encoder, texts) - queued).abs().max())
    moved = float((objective._encode(encoder, texts) - queued).abs().max())
    return {"difference": fresh, "difference_of_the_trained_encoder": moved, "holds": fresh < TOLERANCE < moved}
