"""Queries made of the words that represent a passage.

As PROP does it (`objective/prop.py`), two sets of words are drawn from a passage's word distribution and the likelier
one, under the distribution smoothed by the corpus's, is taken: people ask with words that they expect in the passage.
Unlike there, all words are the passage's own, each at most once, and at least two: a word that the passage does not
hold would make a query that no one asks of it, and a single one asks of too many.

Words that more than a tenth of the passages hold are stop words, in any language. Scripts without spaces give no words,
only longer runs, of which those beyond `LONGEST` characters are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import xxhash

from corpusmith.corpus.base import Passage
from corpusmith.corpus.store import Corpus
from corpusmith.objective.statistics import KeyCounts, WordStatistics

WORD = re.compile(r"\w\w+")
LONGEST = 30
MEAN_WORDS = 3
"""Mean of the Poisson distribution that the number of words is drawn from; Ma et al. (2021) have 3 too."""
COMMON_SHARE = 0.1


class WordSets:
    """Makes queries from passages, given the word distribution of all passages of these documents."""

    def __init__(self, corpus: Corpus, documents: np.ndarray, seed: int) -> None:
        counted, passages = KeyCounts(columns=2), 0
        for document in documents:
            for passage in corpus.take(corpus.passage_rows(int(document))):
                keys, occurrences = np.unique(_keys(_words(passage.text)), return_counts=True)
                counts = np.stack([occurrences, np.ones_like(occurrences)], axis=1)
                counted.add(keys, counts, np.zeros_like(keys))
                passages += 1
        self._seed = seed
        self._statistics = WordStatistics.of(counted, passages, COMMON_SHARE)
        self._smoothing = max(1.0, self._statistics.total / max(1, passages))

    def query(self, passage: Passage) -> str:
        """The likelier of two sets of the passage's words; empty where it has fewer than two that are not common."""
        rng = np.random.default_rng([self._seed, 0x3095E7, passage.row])
        words = np.array(_words(passage.text), dtype=object)
        keys = _keys(words)
        kept = ~self._statistics.is_common(keys)
        words, keys = words[kept], keys[kept]
        number = min(len(np.unique(keys)), max(2, int(rng.poisson(MEAN_WORDS))))
        if number < 2:
            return ""
        sets = np.stack([_first_different(keys, rng.permutation(len(keys)), number) for _ in range(2)])
        likelihood = self._statistics.log_likelihood(keys[sets], keys, self._smoothing)
        return " ".join(words[sets[int(likelihood.argmax())]])


def _words(text: str) -> list[str]:
    return [word for word in WORD.findall(text) if len(word) <= LONGEST]


def _keys(words: Sequence[str] | np.ndarray) -> np.ndarray:
    """`int64`, the same for words that differ in case alone."""
    hashes = [xxhash.xxh64_intdigest(word.casefold().encode("utf-8", "replace")) for word in words]
    return np.array(hashes, dtype=np.uint64).view(np.int64)


def _first_different(keys: np.ndarray, order: np.ndarray, number: int) -> np.ndarray:
    """The first places in this order whose keys differ."""
    _, first = np.unique(keys[order], return_index=True)
    return order[np.sort(first)[:number]]
