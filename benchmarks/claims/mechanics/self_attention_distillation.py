"""Self-attention distillation at work: the student relates a passage's tokens as its teacher does, far nearer to it
than relations that tell no two tokens apart."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.attention import AttentionLayout
from corpusmith.model.encoder import Encoder
from corpusmith.objective.relations import projections, relation_divergence
from corpusmith.objective.self_attention_distillation import SelfAttentionDistillation

PASSAGES = 64
FAR_BELOW = 0.5


@torch.no_grad()
def check(objective: SelfAttentionDistillation, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The student's divergence on a sample of passages, and that of even relations: of states that are all zero."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    batch = objective.collate(examples, rng)
    loss = float(objective.loss(encoder, batch).total)
    packed = batch.inputs.to(next(encoder.parameters()).device)
    layout = AttentionLayout(packed.lengths, packed.ids.device)
    theirs = projections(objective.teacher.beside(encoder), packed, objective.teacher_layer, layout, objective.turned)
    nothing = torch.zeros(len(packed.ids), encoder.config.hidden_size, device=packed.ids.device)
    even = sum(
        float(relation_divergence((nothing, nothing), (theirs[x], theirs[y]), layout, objective.relation_heads))
        for x, y in objective.relations.values()
    ) / (objective.relation_heads * len(packed.ids))
    return {"divergence": loss, "of_even_relations": even, "holds": loss < FAR_BELOW * even}
