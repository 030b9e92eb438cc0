"""A Unigram vocabulary: pieces with probabilities, fitted to the words of a sample and pruned to a size.

A word's probability is the sum over all ways to write it as pieces x_1 ... x_n of p(x_1) ... p(x_n). Beginning with
the commonest substrings, two steps of expectation maximisation fit p; then the pieces go whose loss means least,

    loss(x) = c(x) (log p(x) - max over ways of writing x with other pieces of the sum of log p),

c the expected count, and both are repeated until the size is reached. Single letters always stay.

Where we depart from the paper or it is silent: as in SentencePiece, a substring's weight is its count times its length,
the maximisation takes digamma(c) for log(c), and pieces expected less than half a time go at once, until the size is
reached. Other than there, c in the loss is the expected count instead of that in the best segmentations, the pruning
goes straight to the size, and probabilities are rounded. The trainer of the `tokenizers` library is not used, because
it adds up probabilities in the order of a hash table with a random seed: their last digits, and with them which of two
nearly equal pieces stays, differ from run to run.

Citation: Kudo 2018, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword
Candidates", section 3.2; Kudo and Richardson 2018, "SentencePiece: A simple and language independent subword tokenizer
and detokenizer for Neural Text Processing".
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

SEEDS = 8
"""Substrings that fitting begins with, as a multiple of the size."""
LONGEST = 16
"""Letters of the longest piece."""
SHRINKING = 0.75
"""Share of the pieces that is left after each pruning."""
FITTINGS = 2
"""Steps of expectation maximisation before each pruning, and after the last."""
LEAST_EXPECTED = 0.5
DIGITS = 5


def fit_unigram(words: Mapping[str, int], size: int) -> dict[str, float]:
    """Log-probabilities of at most `size` pieces, the likeliest first; all letters of the words are among them.

    Args:
        words: with their counts.
        size: at least the number of letters.
    """
    weights = _substrings(words)
    letters = sorted(piece for piece in weights if len(piece) == 1)
    longer = sorted((piece for piece in weights if len(piece) > 1), key=lambda piece: (-weights[piece], piece))
    model = _Model([*letters, *sorted(longer[: SEEDS * size])], words, weights)
    while True:
        for _ in range(FITTINGS):
            model.fit(size)
        if len(model.pieces) <= size:
            break
        model.prune(max(size, int(SHRINKING * len(model.pieces))))
    scores = {piece: round(float(score), DIGITS) for piece, score in zip(model.pieces, model.scores, strict=True)}
    return dict(sorted(scores.items(), key=lambda entry: (-entry[1], entry[0])))


class _Model:
    """Pieces with their scores (log-probabilities), and the words that they are fitted to."""

    def __init__(self, pieces: Sequence[str], words: Mapping[str, int], weights: Mapping[str, int]) -> None:
        self.pieces = list(pieces)
        self.scores = np.log(np.array([weights[piece] for piece in pieces], dtype=np.float64))
        self.scores -= np.logaddexp.reduce(self.scores)
        self._expected = np.zeros(len(pieces))
        self._lattice = _Lattice(list(words), self.pieces)
        self._counts = np.array(list(words.values()), dtype=np.float64)

    def fit(self, size: int) -> None:
        """One step of expectation maximisation; while there are more pieces than `size`, those hardly expected go."""
        from scipy.special import digamma

        self._expected = self._lattice.expected(self.scores, self._counts)
        if len(self.pieces) > size:
            self._keep((self._expected >= LEAST_EXPECTED) | self._are_letters())
        expected = np.maximum(self._expected, LEAST_EXPECTED)
        self.scores = digamma(expected) - digamma(expected.sum())

    def prune(self, size: int) -> None:
        """Keep so many pieces, those that would be missed most."""
        letters = self._are_letters()
        others = _Lattice(self.pieces, self.pieces, whole=False).best(self.scores)
        loss = np.where(letters, np.inf, self._expected * (self.scores - np.where(letters, 0.0, others)))
        missed = np.zeros(len(self.pieces), dtype=bool)
        missed[np.argsort(-loss, kind="stable")[:size]] = True
        self._keep(missed)

    def _are_letters(self) -> np.ndarray:
        return np.array([len(piece) == 1 for piece in self.pieces])

    def _keep(self, kept: np.ndarray) -> None:
        self.pieces = [piece for piece, stays in zip(self.pieces, kept, strict=True) if stays]
        self.scores, self._expected = self.scores[kept], self._expected[kept]
        self._lattice.keep(kept)


class _Lattice:
    """All ways to write some strings as pieces.

    A string of n letters has n + 1 nodes, one before, between and behind its letters; a piece is an edge from one to a
    later one. With `whole` false the edge that is all of a string is left out.
    """

    def __init__(self, strings: Sequence[str], pieces: Iterable[str], *, whole: bool = True) -> None:
        numbers = {piece: number for number, piece in enumerate(pieces)}
        begin, end, piece, start, stop = (array("i") for _ in range(5))
        node = 0
        for string in strings:
            length = len(string)
            for first in range(length):
                for last in range(first + 1, min(length, first + LONGEST) + 1):
                    number = numbers.get(string[first:last])
                    if number is not None and (whole or last - first < length):
                        begin.append(node + first)
                        end.append(node + last)
                        piece.append(number)
                        start.append(first)
                        stop.append(last)
            node += length + 1
        lengths = np.array([len(string) for string in strings])
        self._last = np.cumsum(lengths + 1) - 1
        self._first = self._last - lengths
        self._string = np.repeat(np.arange(len(strings)), lengths + 1)
        sources, targets, labels, starts, stops = (np.asarray(values) for values in (begin, end, piece, start, stop))
        self._forward = _Edges(sources, targets, labels, stops)
        self._backward = _Edges(targets, sources, labels, -starts)

    def keep(self, kept: np.ndarray) -> None:
        """Leave out the pieces where `kept` is false; the others are numbered anew."""
        self._forward.keep(kept)
        self._backward.keep(kept)

    def expected(self, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """How often each piece is expected where each string occurs `counts` times."""
        before = self._forward.add(self._from(self._first), scores, np.logaddexp)
        behind = self._backward.add(self._from(self._last), scores, np.logaddexp)
        edges = self._forward
        string = self._string[edges.source]
        ways = before[edges.source] + scores[edges.piece] + behind[edges.target]
        share = np.exp(ways - before[self._last][string])
        return np.bincount(edges.piece, share * counts[string], minlength=len(scores))

    def best(self, scores: np.ndarray) -> np.ndarray:
        """The score of the best way to write each string, minus infinity where there is none."""
        return self._forward.add(self._from(self._first), scores, np.maximum)[self._last]

    def _from(self, nodes: np.ndarray) -> np.ndarray:
        totals = np.full(len(self._string), -np.inf)
        totals[nodes] = 0.0
        return totals


class _Edges:
    """Edges sorted so that all that lead to a node stand together, behind all that lead to where they come from."""

    def __init__(self, source: np.ndarray, target: np.ndarray, piece: np.ndarray, level: np.ndarray) -> None:
        order = np.lexsort((target, level))
        self.source, self.target, self.piece = source[order], target[order], piece[order]
        self._level = level[order]
        self._group()

    def keep(self, kept: np.ndarray) -> None:
        """Leave out the edges of pieces where `kept` is false; the other pieces are numbered anew."""
        stays = kept[self.piece]
        self.source, self.target, self._level = self.source[stays], self.target[stays], self._level[stays]
        self.piece = (np.cumsum(kept, dtype=np.int32) - 1)[self.piece[stays]]
        self._group()

    def _group(self) -> None:
        """Find where the edges of each target, and the targets of each level, begin."""
        self._starts = np.flatnonzero(np.diff(self.target, prepend=-1))
        levels = np.flatnonzero(np.diff(self._level[self._starts])) + 1
        self._levels = list(pairwise([0, *levels.tolist(), len(self._starts)])) if len(self._starts) else []

    def add(self, totals: np.ndarray, scores: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """`totals` of the nodes, each joined by `ufunc` from what its edges bring."""
        starts = np.append(self._starts, len(self.target))
        for first, last in self._levels:
            edges = slice(starts[first], starts[last])
            brought = totals[self.source[edges]] + scores[self.piece[edges]]
            totals[self.target[starts[first:last]]] = ufunc.reduceat(brought, starts[first:last] - starts[first])
        return totals


def _substrings(words: Mapping[str, int]) -> Counter[str]:
    """The letters of words with their counts, and what recurs of longer substrings with its count times its length.

    A substring is only counted where the one without its last letter recurs, so that memory stays small.
    """
    found: Counter[str] = Counter()
    recurring: Counter[str] = Counter()
    for length in range(1, LONGEST + 1):
        counted: Counter[str] = Counter()
        for word, count in words.items():
            for first in range(len(word) - length + 1):
                if length == 1 or word[first : first + length - 1] in recurring:
                    counted[word[first : first + length]] += count
        recurring = Counter({piece: count for piece, count in counted.items() if count > 1 or length == 1})
        if not recurring:
            break
        found.update({piece: count * length for piece, count in recurring.items()})
    return found
