"""The score depends on query and passage together: with another query the positive is no longer put first as often."""

from __future__ import annotations

import numpy as np
import torch

from corpusmith.model.cross_encoder import join
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.objective.reranking import Reranking

QUERIES = 64


@torch.no_grad()
def check(objective: Reranking, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Share of lists whose positive has the highest score, for its own query and for the next one of the sample."""
    pairs, passages = objective.pairs, objective.data.passages
    listed = np.flatnonzero((pairs.negatives >= 0).any(axis=1))
    numbers = rng.choice(listed, min(QUERIES, len(listed)), replace=False)
    shares = []
    for asked in (numbers, np.roll(numbers, 1)):
        first = []
        for query, number in zip(asked, numbers, strict=True):
            rows = pairs.negatives[number][: objective.config.negatives]
            texts = [pairs.positives[number], *(passages[row] for row in rows if row >= 0)]
            queries = pairs.queries[query]
            joined = [join(queries, text, objective.tokenizer, objective.max_tokens) for text in texts]
            packed = pack(joined).to(next(encoder.parameters()).device)
            first.append(int(objective.score(encoder(packed), packed).argmax()) == 0)
        shares.append(float(np.mean(first)))
    own, others = shares
    return {"first": own, "first_for_another_query": others, "holds": own > 1.2 * others}
