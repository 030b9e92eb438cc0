"""A vector trained by bag-of-words prediction names its own passage's words, not just those frequent everywhere."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.pooling import pool
from corpusmith.objective.bag_of_words import BagOfWords
from corpusmith.objective.cross_entropy import Bags

PASSAGES = 64
CLEARLY = 1.5
"""How many times as many of a passage's own words as by another's logits must be named."""
LEAST = 0.05
"""Share of them that must be named at least: less is chance."""


def check(objective: BagOfWords, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Which words the passages' vectors name; see `coverage`."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    inputs = objective.collate(examples, rng).inputs
    packed = inputs.encoder.packed.to(next(encoder.parameters()).device)
    with torch.no_grad():
        vectors = pool(encoder(packed), packed, objective.pooling)[inputs.bags.passages.to(packed.ids.device)]
        logits = objective.head(vectors, encoder.embeddings.tokens.weight)
    return coverage(logits, inputs.bags)


def coverage(logits: torch.Tensor, bags: Bags) -> dict[str, float | bool]:
    """Of the distinct tokens that a passage has and the one before it has not, the share that is among the highest of
    its own logits, `logits[P, V]`, and among the highest of the other's; as many are taken as the passage has tokens.
    """
    words = bags.tokens.split(bags.counts.tolist())
    shares = []
    for i, bag in enumerate(words):
        wanted = bag[~torch.isin(bag, words[i - 1])]
        highest = [logits[row].topk(len(bag)).indices.cpu() for row in (i, i - 1)]
        shares.append([float(torch.isin(wanted, found).float().mean()) for found in highest])
    own, anothers = np.nanmean(shares, axis=0).tolist()
    holds = own > max(CLEARLY * anothers, LEAST)
    return {"named_by_its_own": own, "named_by_anothers": anothers, "holds": holds}
