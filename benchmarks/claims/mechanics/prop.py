"""Of two new sets of words, the encoder finds the one that the passage makes likelier, far more often than by chance;
with another passage it does not."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.cross_encoder import join
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.objective.prop import Prop

PASSAGES = 128
WELL_ABOVE_CHANCE = 0.6


@torch.no_grad()
def check(objective: Prop, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Share of pairs whose likelier set has the higher score: with its own passage, and with the next one of the
    sample."""
    rows = rng.choice(objective.rows, min(PASSAGES, len(objective.rows)), replace=False)
    passages = [objective.data.passages[row].astype(np.int64) for row in rows]
    sets = [objective.draw_sets(passage, rng) for passage in passages]
    differ = torch.tensor([pair.differ for pair in sets])
    shares = []
    for read in (passages, passages[1:] + passages[:1]):
        scores = []
        for words, passage in zip(sets, read, strict=True):
            pair = [
                join(ids, passage, objective.tokenizer, objective.max_tokens) for ids in (words.likelier, words.other)
            ]
            packed = pack(pair).to(next(encoder.parameters()).device)
            scores.append(objective.score(encoder(packed), packed))
        likelier, other = torch.stack(scores)[differ.to(scores[0].device)].unbind(dim=1)
        shares.append(float((likelier > other).float().mean()))
    own, others = shares
    return {"accuracy": own, "accuracy_with_another_passage": others, "holds": own > WELL_ABOVE_CHANCE}
