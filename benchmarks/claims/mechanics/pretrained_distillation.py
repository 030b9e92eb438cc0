"""Pretrained distillation at work: for hidden tokens the student's distribution is nearer to its teacher's than is the
teacher's own mean distribution, which knows nothing of the passage."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.pretrained_distillation import PretrainedDistillation

PASSAGES = 64


@torch.no_grad()
def check(objective: PretrainedDistillation, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The student's divergence from its teacher on a sample of passages, and that of the teacher's mean there."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    inputs = objective.collate(examples, rng).inputs
    device = next(encoder.parameters()).device
    packed, places = inputs.packed.to(device), inputs.places.to(device)
    teacher, head = objective.teacher.beside(encoder), objective.teacher.head
    assert head is not None
    wanted = teacher(packed)[places]
    found = float(objective.divergence(encoder, encoder(packed)[places], wanted))
    shares = (head(wanted, teacher.token_embedding.weight).float() / objective.config.temperature).softmax(dim=1)
    mean = shares.mean(dim=0)
    blind = float((shares * (shares.clamp(min=1e-30) / mean).log()).sum(dim=1).mean())
    blind *= objective.config.temperature**2
    return {"divergence": found, "of_the_teachers_mean": blind, "holds": found < blind}
