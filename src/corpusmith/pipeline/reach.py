"""How much of the passages a model does not read, because they are longer than its sequences, and the mend for it.

A passage is measured in words and a sequence in tokens. In a language that the vocabulary was not made for a word takes
twice as many tokens, and the end of nearly every passage is then in no vector: words alone find it, and nobody is told.
"""

from __future__ import annotations

import numpy as np

from corpusmith.corpus.config import CorpusConfig
from corpusmith.vocabulary.tokenizer import SPECIAL_TOKENS

TOO_MUCH = 0.05
"""Share of the tokens out of reach from which on it is said. Our judgement."""
LEFT = 0.02
"""Share that the passages advised may still leave out, the few longest of them."""
STEP = 10
"""Words in which the length of passages is advised."""


def share_beyond(lengths: np.ndarray, limit: int) -> float:
    """Share of the tokens of texts with these lengths that lie behind the first `limit` tokens of each, 0 to 1."""
    return float(np.maximum(lengths - limit, 0).sum() / max(lengths.sum(), 1))


def fitting_words(lengths: np.ndarray, limit: int, words: int) -> int:
    """How many words passages may have so that a model reads nearly all of them, where with `words` they have these
    lengths: a multiple of ten, 20 at least. Passages are taken to shrink alike."""
    for fewer in range(words - words % STEP, 2 * STEP, -STEP):
        if share_beyond(lengths * fewer / words, limit) <= LEFT:
            return fewer
    return 2 * STEP


def advice(lengths: np.ndarray, max_tokens: int, corpus: CorpusConfig) -> str:
    """One sentence on what is out of reach and the mend; empty where it is little."""
    limit = max_tokens - SPECIAL_TOKENS
    beyond = share_beyond(lengths, limit)
    if beyond <= TOO_MUCH:
        return ""
    words = fitting_words(lengths, limit, corpus.passage_words)
    mend = f"corpus.passage_words = {words}"
    if corpus.overlap_words * 2 > words:
        mend += f" and corpus.overlap_words = {words // 2}"
    return (
        f"{beyond:.0%} of the passages' tokens lie beyond the {limit} that the model reads of each, and its vectors "
        f"know nothing of them; {mend} cuts the documents so that it reads them all but a few."
    )
