"""The words of a sample with their counts: all that is ever learned from.

A word here is a pre-token: what a tokenizer's normalisation and its first cut leave, across whose borders no piece can
reach. Work on distinct words instead of texts is what makes learning fast, and a corpus is made heavier by multiplying
its counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import tokenizers

LETTERS = 1_000_000
"""Letters of distinct words that are learned from, the commonest words first: about what 10 million characters of
English have, learned from in some ten seconds."""
LONGEST_SEQUENCE = 32
"""Longer words (text of scripts without spaces, encoded data) are learned from in parts of so many pieces."""

Pieces = tuple[str, ...]


def count_words(backend: tokenizers.Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each word of these texts occurs, as the tokenizer's normaliser and pre-tokenizer leave it."""
    normalise = str if backend.normalizer is None else backend.normalizer.normalize_str
    counts: Counter[str] = Counter()
    for text in texts:
        normal = normalise(text)
        if backend.pre_tokenizer is None:
            counts[normal] += 1
        else:
            counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    del counts[""]
    return counts


def balanced(domain: Counter[str], general: Counter[str]) -> Counter[str]:
    """Both counts together, the smaller ones multiplied so that both weigh the same, to the nearest whole number."""
    few, many = sorted((domain, general), key=lambda counts: counts.total())
    if not few:
        return many
    times = round(many.total() / few.total())
    return Counter({word: count * times for word, count in few.items()}) + many


def sequences(counts: Mapping[str, int], cut: Callable[[str], Iterable[str | None]]) -> dict[Pieces, int]:
    """The commonest words as sequences of pieces, with their counts.

    Args:
        counts: of words.
        cut: gives the pieces of a word, None for what has none: a sequence ends there.
    """
    found: Counter[Pieces] = Counter()
    letters = 0
    for word in sorted(counts, key=lambda word: (-counts[word], word)):
        sequence: list[str] = []
        for piece in (*cut(word), None):
            if piece is not None:
                sequence.append(piece)
            if sequence and (piece is None or len(sequence) == LONGEST_SEQUENCE):
                found[tuple(sequence)] += counts[word]
                sequence = []
        letters += len(word)
        if letters >= LETTERS:
            break
    return dict(found)
