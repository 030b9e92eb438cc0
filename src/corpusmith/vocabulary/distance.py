"""How far a corpus is from general text, by what a vocabulary remembers of the texts that it was learned from.

No general text comes with corpusmith, but a base's vocabulary was learned from some, and tells how often its pieces
occurred there:

- WordPiece (BERT) lists its pieces by how often they occurred. A piece of rank r has about the share 1 / (r + 2.7)
  (Zipf 1949; the constant is Mandelbrot's).
- Byte-level BPE makes its pieces in the order of its merges, commonest first: the same law, by the order of merges.
- Unigram gives every piece the logarithm of its probability.

The distance is the Jensen-Shannon divergence with logarithms to base 2, 0 for the same and 1 for distributions without
a common piece, between these shares and those of the corpus's tokens, both over the pieces of letters that begin a word
and have two letters at least. What goes on with a word is left out, since its order tells little: it was counted while
the vocabulary was still growing.

Of a vocabulary of many languages it is the distance from their mixture, and so large for each one. A vocabulary that
was sorted otherwise (by the alphabet) tells nothing, and neither does one learned from the corpus itself.

Citation: Lin (1991), "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on Information Theory;
Mandelbrot (1953), "An informational theory of the statistical structure of language", for rank + 2.7. That vocabularies
tell of their texts: Hayase et al. (2024), "Data Mixture Inference: What do BPE Tokenizers Reveal about their Training
Data?". To use the order of a WordPiece vocabulary is ours (docs/lab-notes.md has what it gives).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.correspondence import Entry, ordinary_entries

MANDELBROT = 2.7
"""Added to the rank in Zipf's law."""
LEAST_LETTERS = 2
LEAST_PIECES = 1000
"""Pieces that a vocabulary must have, and tokens that a corpus must give, for a distance to be told."""


def distance_from_general(tokenizer: Tokenizer, texts: Sequence[str]) -> float | None:
    """Divergence of these texts from those that the tokenizer was learned from, 0 to 1; None where the vocabulary does
    not tell, or the texts have too few words that it knows."""
    entries = [entry for entry in ordinary_entries(tokenizer) if _is_word(entry)]
    shares = _general_shares(tokenizer, entries)
    if shares is None or len(entries) < LEAST_PIECES:
        return None
    counts = np.zeros(tokenizer.size, dtype=np.int64)
    for ids in tokenizer.stream(texts):
        counts += np.bincount(ids, minlength=tokenizer.size)
    found = counts[[entry.id for entry in entries]]
    return None if found.sum() < LEAST_PIECES else divergence(found / found.sum(), shares)


def divergence(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence of two distributions over the same things, to base 2: 0 to 1."""
    middle = (first + second) / 2
    return float(sum(_relative_entropy(each, middle) for each in (first, second)) / 2)


def _relative_entropy(shares: np.ndarray, against: np.ndarray) -> float:
    there = shares > 0
    return float(np.sum(shares[there] * np.log2(shares[there] / against[there])))


def _is_word(entry: Entry) -> bool:
    text = entry.piece.text
    return entry.piece.begins and len(text) >= LEAST_LETTERS and text.isalpha()


def _general_shares(tokenizer: Tokenizer, entries: Sequence[Entry]) -> np.ndarray | None:
    """`float64[n]`, the entries' shares of the texts that the vocabulary was learned from; None for other kinds."""
    if tokenizer.kind == "WordPiece":
        ranks = np.arange(len(entries), dtype=np.float64)  # entries come by their ids
    elif tokenizer.kind == "BPE":
        made = {"".join(pair): rank for rank, pair in reversed(list(enumerate(_merges(tokenizer))))}
        order = np.array([made.get(entry.written, len(made)) for entry in entries])
        ranks = np.argsort(np.argsort(order, kind="stable"), kind="stable").astype(np.float64)
    elif tokenizer.kind == "Unigram":
        scores = dict(map(tuple, json.loads(tokenizer.backend.to_str())["model"]["vocab"]))
        shares = np.exp([scores.get(entry.written, -np.inf) for entry in entries])
        return shares / shares.sum() if shares.sum() > 0 else None
    else:
        return None
    shares = 1 / (ranks + MANDELBROT)
    return shares / shares.sum()


def _merges(tokenizer: Tokenizer) -> list[Sequence[str]]:
    """Pairs of pieces, in the order in which they are joined; written as one text by older versions of the library."""
    merges = json.loads(tokenizer.backend.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
