"""What a corpus says about its tokens: in how many passages they occur, which stand together, which words they form.

Everything is counted in one pass over token shards, a chunk at a time, by whole-array operations. Vocabularies of
tokens are small and counted exactly. Pairs of tokens and words are many: they are known by 64-bit keys, and where more
of them occur than memory is set aside for, the rarest are forgotten (the idea of Manku and Motwani 2002, "Approximate
Frequency Counts over Data Streams"). Nothing depends on chance: the same shards give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from corpusmith.corpus.shards import TokenShards

CHUNK_TOKENS = 2**18
"""Tokens counted at a time."""

KEYS_HELD = 2**21
"""Keys counted before the rarest half is forgotten."""

PAIR_TOKENS = 2**22
"""Tokens from which pairs are counted; of a larger corpus every n-th passage is read."""

WINDOW = 4
"""Tokens of a pair stand at most so far apart."""

LONGEST_WORD = 63
"""Pieces of a word that are kept, where it is to be drawn."""

FEWEST_COMMON = 5
"""Passages that may always hold a word without making it a common one: in a small corpus a share says little."""

K1, B = 1.2, 0.75
"""BM25's usual parameters (Robertson and Zaragoza 2009, section 3.5)."""


class Chunk(NamedTuple):
    """Some passages end to end: `ids[T]` (int64), `lengths[R]`, and `places[T]`, where each token stands in the
    shards."""

    ids: np.ndarray
    lengths: np.ndarray
    places: np.ndarray

    @property
    def passage(self) -> np.ndarray:
        """`int64[T]`, the number of each token's passage within the chunk."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def chunks(shards: TokenShards, rows: np.ndarray) -> Iterator[Chunk]:
    """The passages of these rows, some `CHUNK_TOKENS` tokens at a time."""
    sizes = shards.lengths[rows]
    borders = np.flatnonzero(np.diff(np.cumsum(sizes) // CHUNK_TOKENS)) + 1
    for part, lengths in zip(np.split(rows, borders), np.split(sizes, borders), strict=True):
        before = np.cumsum(lengths) - lengths
        places = np.repeat(shards.offsets[part] - before, lengths) + np.arange(int(lengths.sum()))
        yield Chunk(shards.tokens[places].astype(np.int64), lengths, places)


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """`document_frequencies[V]`: of the `passages` counted, how many hold each token; `mean_length` in tokens."""

    document_frequencies: np.ndarray
    passages: int
    mean_length: float

    def bm25(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """`float64[T]`, BM25's weight of each token in its own sequence, always above 0 (Robertson and Zaragoza 2009,
        equation 3.15, with 1 added inside the logarithm as Lucene does).

        Args:
            ids: `int64[T]`, packed sequences.
            lengths: `int64[B]`, their tokens.
        """
        frequencies = self.document_frequencies[ids]
        rarity = np.log1p((self.passages - frequencies + 0.5) / (frequencies + 0.5))
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        keys = sequence * len(self.document_frequencies) + ids
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        occurrences = counts[inverse]
        relative = (lengths / max(1.0, self.mean_length))[sequence]
        return rarity * occurrences * (K1 + 1) / (occurrences + K1 * (1 - B + B * relative))


def count_terms(shards: TokenShards, rows: np.ndarray, size: int) -> TermStatistics:
    """Count the tokens (ids below `size`) of these passages."""
    frequencies = np.zeros(size, dtype=np.int64)
    for chunk in chunks(shards, rows):
        once = np.unique(chunk.passage * size + chunk.ids) % size
        frequencies += np.bincount(once, minlength=size)
    return TermStatistics(frequencies, len(rows), float(shards.lengths[rows].mean()) if len(rows) else 0.0)


class KeyCounts:
    """Counts of 64-bit keys in bounded memory. Each key has `columns` numbers that are summed, of which the first
    decides what is forgotten, and an example: a number that is kept as it came with the key for the first time."""

    def __init__(self, columns: int, held: int = KEYS_HELD) -> None:
        self.held = held
        self._keys = np.empty(0, dtype=np.int64)
        self._counts = np.empty((0, columns), dtype=np.int64)
        self._examples = np.empty(0, dtype=np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._number_waiting = 0

    def add(self, keys: np.ndarray, counts: np.ndarray, examples: np.ndarray) -> None:
        """Add `counts[N, columns]` to `keys[N]`, which may repeat."""
        self._waiting.append(_summed(keys, counts, examples))
        self._number_waiting += len(self._waiting[-1][0])
        if self._number_waiting > self.held // 2:
            self._settle()
            self._forget()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`keys[K]`, ascending, `counts[K, columns]` and `examples[K]`."""
        self._settle()
        return self._keys, self._counts, self._examples

    def _settle(self) -> None:
        """Bring together what waits and what was there."""
        parts = [(self._keys, self._counts, self._examples), *self._waiting]
        keys, counts, examples = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        self._keys, self._counts, self._examples = _summed(keys, counts, examples)
        self._waiting, self._number_waiting = [], 0

    def _forget(self) -> None:
        """Drop the rarest keys until half of those that may be held are left."""
        if len(self._keys) <= self.held // 2:
            return
        first = self._counts[:, 0]
        rarest = np.partition(first, len(first) - self.held // 2)[len(first) - self.held // 2]
        kept = first > rarest
        self._keys, self._counts, self._examples = self._keys[kept], self._counts[kept], self._examples[kept]


def _summed(keys: np.ndarray, counts: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each key once, ascending, with the sum of its counts and its first example."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    if len(starts) == 0:
        return keys, counts, examples
    return keys[starts], np.add.reduceat(counts[order], starts, axis=0), examples[order][starts]


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Positive pointwise mutual information of tokens that stand together: `values[P]` (float32) of the pairs
    `keys[P]` (int64, ascending), the smaller id times `size` plus the larger one; 0 for all others."""

    keys: np.ndarray
    values: np.ndarray
    size: int

    def informativeness(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """`float64[T]`: how much each token tells about those at most `WINDOW` places away in its sequence, as the mean
        of its positive pointwise mutual information with them; 0 for a token without neighbours."""
        sums, neighbours = np.zeros(len(ids)), np.zeros(len(ids))
        for left, right in _neighbours(lengths):
            values = self._values(_pair_keys(ids[left], ids[right], self.size))
            for side in (left, right):
                sums[side] += values
                neighbours[side] += 1
        return sums / np.maximum(neighbours, 1)

    def _values(self, keys: np.ndarray) -> np.ndarray:
        if len(self.keys) == 0:
            return np.zeros(len(keys), dtype=np.float32)
        found = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[found] == keys, self.values[found], np.float32(0))


def count_pairs(shards: TokenShards, rows: np.ndarray, size: int) -> PairStatistics:
    """Pointwise mutual information, log p(a, b) / (p(a) p(b)), of tokens at most `WINDOW` places apart.

    Rare pairs are discounted by n / (n + 1) * m / (m + 1), n the pair's count and m that of its rarer token (Pantel
    and Lin 2002, "Discovering Word Senses from Text", section 3): otherwise what occurred once would lead.
    """
    every = -(-int(shards.lengths[rows].sum()) // PAIR_TOKENS) or 1
    counted, singles = KeyCounts(columns=1), np.zeros(size, dtype=np.int64)
    for chunk in chunks(shards, rows[::every]):
        for left, right in _neighbours(chunk.lengths):
            a, b = chunk.ids[left], chunk.ids[right]
            counted.add(_pair_keys(a, b, size), np.ones((len(a), 1), dtype=np.int64), np.zeros(len(a), dtype=np.int64))
            singles += np.bincount(a, minlength=size) + np.bincount(b, minlength=size)
    keys, counts, _ = counted.result()
    together = counts[:, 0].astype(np.float64)
    first, second = singles[keys // size], singles[keys % size]
    rarer = np.minimum(first, second)
    # A pair of unlike tokens is met in two orders, one of a token with itself in one.
    orders = np.where(keys // size == keys % size, 1, 2)
    information = np.log(together * 2 * singles.sum() / (orders * first * np.maximum(second, 1.0)))
    information *= together / (together + 1) * rarer / (rarer + 1)
    kept = information > 0
    return PairStatistics(keys[kept], information[kept].astype(np.float32), size)


def _neighbours(lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of the left and the right tokens of all pairs within a sequence, one distance after the other."""
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    for distance in range(1, WINDOW + 1):
        left = np.flatnonzero(sequence[:-distance] == sequence[distance:])
        yield left, left + distance


def _pair_keys(left: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
    return np.minimum(left, right).astype(np.int64) * size + np.maximum(left, right)


@dataclass(frozen=True, slots=True)
class WordStatistics:
    """A unigram model of the corpus, without the words that too many passages hold.

    Attributes:
        common: int64, ascending, keys of the words left out.
        keys: int64 `[W]`, ascending, keys of the others; what is in neither was forgotten, and counts as met once.
        occurrences: int64 `[W]`.
        ends: int64 `[W]`, their running sums.
        examples: int64 `[W]`, what came with the key for the first time.
    """

    common: np.ndarray
    keys: np.ndarray
    occurrences: np.ndarray
    ends: np.ndarray
    examples: np.ndarray

    @classmethod
    def of(cls, counted: KeyCounts, passages: int, common_share: float) -> WordStatistics:
        """From occurrences and passages of words; what is in more than a share of all `passages`, and in more than
        `FEWEST_COMMON`, is common."""
        keys, counts, examples = counted.result()
        is_common = counts[:, 1] > max(FEWEST_COMMON, common_share * passages)
        kept = ~is_common
        occurrences = counts[kept, 0]
        return cls(keys[is_common], keys[kept], occurrences, np.cumsum(occurrences), examples[kept])

    @property
    def total(self) -> int:
        """Occurrences of all words that are not left out."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def is_common(self, keys: np.ndarray) -> np.ndarray:
        """`bool`, which of these are left out."""
        return np.isin(keys, self.common)

    def drawn(self, uniform: np.ndarray) -> np.ndarray:
        """Numbers of words, each as likely as it is often, from uniform numbers in [0, 1); there must be words."""
        return np.searchsorted(self.ends, (uniform * self.total).astype(np.int64), side="right")

    def log_likelihood(self, words: np.ndarray, document: np.ndarray, smoothing: float) -> np.ndarray:
        """`float64[S]`: log-likelihood of word sets under a document's smoothed unigram model,

            p(w | D) = (count of w in D + smoothing * p(w | corpus)) / (|D| + smoothing)

        (Zhai and Lafferty 2004, "A Study of Smoothing Methods for Language Models Applied to Information Retrieval",
        section 3: a Dirichlet prior).

        Args:
            words: int64 `[S, n]`, keys of S sets of n words.
            document: int64, keys of the document's words, common ones left out.
            smoothing: words that the corpus adds to the document.
        """
        document = np.sort(document)
        counts = np.searchsorted(document, words, side="right") - np.searchsorted(document, words, side="left")
        probability = np.ones(words.shape)
        if len(self.keys):
            found = np.searchsorted(self.keys, words).clip(max=len(self.keys) - 1)
            probability = np.where(self.keys[found] == words, self.occurrences[found], 1.0)
        probability /= max(1, self.total)
        return np.log((counts + smoothing * probability) / (len(document) + smoothing)).sum(axis=-1)


def count_words(
    shards: TokenShards, rows: np.ndarray, is_word_start: np.ndarray, is_ordinary: np.ndarray, common_share: float
) -> WordStatistics:
    """Count the words of these passages, special tokens left out.

    An example is where a word stands in the shards, times `LONGEST_WORD + 1`, plus its pieces; `word_at` reads it.
    """
    counted = KeyCounts(columns=2)
    for chunk in chunks(shards, rows):
        starts, keys = word_keys(chunk.ids, chunk.passage, is_word_start, is_ordinary)
        pieces = np.minimum(np.diff(starts, append=len(chunk.ids)), LONGEST_WORD)
        ordinary = is_ordinary[chunk.ids[starts]]
        starts, keys, pieces = starts[ordinary], keys[ordinary], pieces[ordinary]
        order = np.lexsort((keys, chunk.passage[starts]))
        again = np.zeros(len(keys), dtype=bool)
        again[order[1:]] = (np.diff(keys[order]) == 0) & (np.diff(chunk.passage[starts][order]) == 0)
        counts = np.stack([np.ones(len(keys), dtype=np.int64), ~again], axis=1)
        counted.add(keys, counts, chunk.places[starts] * (LONGEST_WORD + 1) + pieces)
    return WordStatistics.of(counted, len(rows), common_share)


def word_at(shards: TokenShards, example: int) -> np.ndarray:
    """The ids of a word, from its example."""
    place, pieces = divmod(int(example), LONGEST_WORD + 1)
    return shards.tokens[place : place + pieces].astype(np.int64)


def words_begin(
    ids: np.ndarray, sequence: np.ndarray, is_word_start: np.ndarray, is_ordinary: np.ndarray
) -> np.ndarray:
    """`bool[T]`: which tokens begin a word; special tokens are words of their own.

    Args:
        ids: `int64[T]`.
        sequence: `int64[T]`, ascending: no word goes over from one to the next.
        is_word_start, is_ordinary: `bool[V]`, of each entry of the vocabulary.
    """
    ordinary = is_ordinary[ids]
    begins = is_word_start[ids] | ~ordinary | ~np.append(False, ordinary[:-1])
    return begins | (np.diff(sequence, prepend=-1) > 0)


def word_keys(
    ids: np.ndarray, sequence: np.ndarray, is_word_start: np.ndarray, is_ordinary: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`starts[n]` and `keys[n]` (int64) of all words, special tokens among them; arguments as in `words_begin`."""
    begins = words_begin(ids, sequence, is_word_start, is_ordinary)
    starts = np.flatnonzero(begins)
    if len(starts) == 0:
        return starts, np.empty(0, dtype=np.int64)
    within = np.arange(len(ids)) - starts[np.cumsum(begins) - 1]
    pieces = _mixed(ids.astype(np.uint64) + (within.astype(np.uint64) << np.uint64(32)))
    return starts, np.add.reduceat(pieces, starts).view(np.int64)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Spread 64-bit numbers evenly, each onto another (the last step of Steele et al. 2014, SplitMix64)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
