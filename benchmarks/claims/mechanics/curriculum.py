"""A curriculum hides what it says: its first rate at the beginning of training, its last one at the end."""

from __future__ import annotations

import numpy as np

from corpusmith.model.encoder import Encoder
from corpusmith.objective.masked_language import MaskedLanguage

PASSAGES = 64
CLOSE = 0.03


def check(objective: MaskedLanguage, encoder: Encoder, rng: np.random.Generator) -> dict[str, float | bool]:
    """Share of ordinary tokens hidden at the beginning and at the end, and of those hidden together with the piece
    before them."""
    examples = rng.choice(len(objective.rows), min(PASSAGES, len(objective.rows)), replace=False)
    sequences = objective.sequences(examples)
    ids, lengths = np.concatenate(sequences), np.array([len(sequence) for sequence in sequences])
    ordinary = int(objective.masking.is_ordinary[ids].sum())
    config, found = objective.masking.config, {}
    for name, progress, wanted in (("first", 0.0, config.masking_rate), ("last", 1.0, objective.masking.rate(1.0))):
        places = objective.masking(ids, lengths, rng.random((len(ids), 3)), progress).places
        goes_on = ~objective.masking.is_word_start[ids[places]]
        together = float(np.isin(places[goes_on] - 1, places).mean()) if goes_on.any() else 0.0
        found |= {f"{name}_rate": len(places) / ordinary, f"{name}_wanted": wanted, f"{name}_together": together}
    holds = all(abs(found[f"{name}_rate"] - found[f"{name}_wanted"]) < CLOSE for name in ("first", "last"))
    return found | {"holds": holds and (not config.whole_words or found["last_together"] > found["first_together"])}
