"""DupMAE rebuilds a passage from its own vector, and its tokens' states together name the passage's words."""

from __future__ import annotations

import numpy as np
import torch
from benchmarks.claims.mechanics.bag_of_words import PASSAGES, coverage

from corpusmith.model.encoder import Encoder
from corpusmith.model.pooling import pool
from corpusmith.objective.bag_of_words import bags_of
from corpusmith.objective.dupmae import DupMAE

FAR_BELOW = 0.9


def check(objective: DupMAE, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """The decoder's loss with a passage's vector and with another's; the words named by the tokens' largest logits."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    inputs = objective.collate(examples, rng).inputs
    packed = inputs.encoder.packed.to(next(encoder.parameters()).device)
    bags = bags_of(inputs.original.ids.numpy(), inputs.original.lengths.numpy(), objective.masking.is_ordinary)
    with torch.no_grad():
        hidden = encoder(packed)
        vectors = pool(hidden, packed, objective.pooling)
        own, others = (
            float(objective.decoder_loss(encoder, given, inputs)) for given in (vectors, vectors.roll(1, dims=0))
        )
        states = hidden[inputs.places.to(hidden.device)].split(bags.lengths.tolist())
        logits = torch.stack([objective.head(s, encoder.embeddings.tokens.weight).amax(dim=0) for s in states])
    named = coverage(logits, bags)
    rebuilt = own < FAR_BELOW * others
    return named | {"own_vector_loss": own, "others_vector_loss": others, "holds": rebuilt and bool(named["holds"])}
