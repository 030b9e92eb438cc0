"""Where sentences end, as tokens tell it."""

from __future__ import annotations

import numpy as np

from corpusmith.vocabulary.tokenizer import Tokenizer

SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")


def sentence_ends(tokenizer: Tokenizer) -> np.ndarray:
    """`bool[size]`: tokens that end a sentence."""
    is_end = np.zeros(tokenizer.size, dtype=bool)
    is_end[[ids[-1] for ids in tokenizer.encode(SENTENCE_ENDS) if len(ids)]] = True
    is_end[tokenizer.special_ids] = False
    return is_end
