"""What is hidden by importance is rarer than what stands in the passages, at the rate that random masking has."""

from __future__ import annotations

import numpy as np

from corpusmith.model.encoder import Encoder
from corpusmith.objective.masked_language import MaskedLanguage
from corpusmith.objective.statistics import count_terms

PASSAGES = 64
RARER = 1.1


def check(objective: MaskedLanguage, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Mean log inverse document frequency of hidden and of all ordinary tokens, and the share that is hidden."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    masking, data = objective.masking, objective.data
    terms = count_terms(data.passages, data.rows, objective.tokenizer.size)
    rarity = np.log((1 + terms.passages) / (1 + terms.document_frequencies))
    sequences = objective.sequences(examples)
    ids, lengths = np.concatenate(sequences), np.array([len(sequence) for sequence in sequences])
    hidden = masking(ids, lengths, rng.random((len(ids), 3)), progress=1.0).targets
    ordinary = ids[masking.is_ordinary[ids]]
    rate, wanted = len(hidden) / len(ordinary), masking.rate(1.0)
    of_hidden, of_all = float(rarity[hidden].mean()), float(rarity[ordinary].mean())
    holds = of_hidden > RARER * of_all and abs(rate - wanted) < 0.05
    return {"rarity_of_hidden": of_hidden, "rarity_of_all": of_all, "rate": rate, "holds": holds}
