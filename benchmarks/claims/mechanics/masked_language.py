"""Hidden tokens are named from their surroundings: far more of them than the most frequent token would name."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.masked_language import MaskedLanguage

PASSAGES = 64


@torch.no_grad()
def check(objective: MaskedLanguage, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The loss on a sample of passages, and that of naming every token by its frequency among the hidden ones."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    batch = objective.collate(examples, rng)
    loss = float(objective.loss(encoder, batch).total)
    _, counts = np.unique(np.asarray(batch.inputs.targets), return_counts=True)
    frequencies = counts / counts.sum()
    unigram = float(-(frequencies * np.log(frequencies)).sum())
    return {"loss": loss, "loss_of_frequencies": unigram, "holds": loss < unigram}
