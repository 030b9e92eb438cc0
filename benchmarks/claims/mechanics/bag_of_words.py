"""A vector trained by bag-of-words prediction names its own passage's words, not just those frequent everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.pooling import pool
from corpusmith.objective.bag_of_words import BagOfWords
from corpusmith.objective.cross_entropy import Bags

PASSAGES = 64
CLEARLY = 1.5
"""How many times as many of its own words as of another passage's must be named."""


def check(objective: BagOfWords, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Share of a passage's distinct tokens among as many of the highest logits of its vector, and of another's."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    inputs = objective.collate(examples, rng).inputs
    packed = inputs.encoder.packed.to(next(encoder.parameters()).device)
    with torch.no_grad():
        vectors = pool(encoder(packed), packed, objective.pooling)[inputs.bags.passages.to(packed.ids.device)]
        logits = objective.head(vectors, encoder.embeddings.tokens.weight)
    return coverage(logits, inputs.bags)


def coverage(logits: torch.Tensor, bags: Bags) -> dict[str, float | bool]:
    """Which share of a passage's words its own logits name, `logits[P, V]`, and which the next passage's."""
    words = bags.tokens.split(bags.counts.tolist())
    own, others = (_named(list(rows.cpu()), words) for rows in (logits, logits.roll(1, dims=0)))
    return {"own_words_named": own, "others_words_named": others, "holds": own > CLEARLY * others}


def _named(logits: Sequence[torch.Tensor], words: Sequence[torch.Tensor]) -> float:
    shares = [
        torch.isin(bag, row.topk(len(bag)).indices).float().mean() for row, bag in zip(logits, words, strict=True)
    ]
    return float(torch.stack(shares).mean())
