"""A sentence finds the text that it was taken from among those of other sentences."""

from __future__ import annotations

import math

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.ict import InverseCloze

EXAMPLES = 64


@torch.no_grad()
def check(objective: InverseCloze, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The loss of a sample, against that of guessing."""
    number = len(objective.examples)
    batch = objective.collate(rng.choice(number, min(EXAMPLES, number), replace=False), rng)
    candidates = (~batch.inputs.excluded).sum(dim=1)
    guessing = float(candidates.float().log().mean())
    found = objective.loss(encoder, batch)
    loss = float(found.total)
    holds = bool(math.isfinite(loss) and loss < guessing / 2)
    return {"loss": loss, "guessing": guessing, "accuracy": found.parts["accuracy"], "holds": holds}
