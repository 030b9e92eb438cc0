"""Spans that recur in several passages of one document: names, terms, whatever the document is about.

Words are numbered by a hash of their pieces, and so are runs of n words within their document, for n = 1, 2, ...: a run
recurs only where the run shorter by one recurs, so each round looks at fewer places than the one before. Then, from the
longest runs down, a span counts where it does not always lie within a longer one. Memory and time are bounded by
looking at about TOKENS_AT_A_TIME tokens at a time, whole documents, as vectors throughout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from corpusmith.corpus.shards import TokenShards
from corpusmith.objective.spans import headings, sentence_ends
from corpusmith.vocabulary.tokenizer import Tokenizer

TOKENS_AT_A_TIME = 2**20
PRIME = np.uint64(0x9E3779B97F4A7C15)
"""An odd constant without pattern: 2^64 over the golden ratio."""


@dataclass(frozen=True, slots=True)
class RecurringSpans:
    """S spans with all their occurrences, O in all, span after span, ascending in their passages.

    `offsets[S+1]` says which occurrences are a span's; `rows[O]` is an occurrence's passage, `starts[O]` and `stops[O]`
    its tokens there.
    """

    offsets: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class _Words:
    """W words of some passages, in their order: `keys[W]` (uint64) is the same for the same pieces; `rows[W]`,
    `documents[W]`, `starts[W]` and `stops[W]` say where they stand."""

    keys: np.ndarray
    rows: np.ndarray
    documents: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


@dataclass(frozen=True, slots=True)
class _Runs:
    """Places (first words) of all runs of `length` words that recur, ascending; `group[places]` numbers which are the
    same."""

    length: int
    places: np.ndarray
    group: np.ndarray


class SpanFinder:
    """Finds recurring spans between `shortest` and `longest` words that neither begin nor end with a common word.

    A word is common that is in more than `common_share` of the documents, and in more than one. Titles and headings
    that passages share with their neighbours are passed over, and what recurs at more than `longest` words is copied
    text (the overlap of neighbouring passages, say) and gives no spans. No span reaches over the end of a sentence or
    holds a special token.
    """

    def __init__(
        self,
        passages: TokenShards,
        documents: np.ndarray,
        tokenizer: Tokenizer,
        shortest: int,
        longest: int,
        common_share: float,
    ) -> None:
        self.passages, self.documents = passages, documents
        self.is_word_start = tokenizer.is_word_start
        self.is_barrier = sentence_ends(tokenizer)
        self.is_barrier[tokenizer.special_ids] = True
        self.shortest, self.longest, self.common_share = shortest, longest, common_share

    def find(self, rows: np.ndarray, per_document: int, rng: np.random.Generator) -> RecurringSpans:
        """The spans in these passages (rows, ascending), at most `per_document` drawn from each document."""
        common = self._common_words(rows)
        found = [self._of(words, common, per_document, rng) for words in self._words(rows)]
        sizes = np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(part.offsets) for part in found)])
        empty = np.zeros(0, dtype=np.int64)
        columns = ([getattr(part, name) for part in found] for name in ("rows", "starts", "stops"))
        return RecurringSpans(np.cumsum(sizes), *(np.concatenate([empty, *parts]) for parts in columns))

    def _words(self, rows: np.ndarray) -> Iterator[_Words]:
        """The words of about `TOKENS_AT_A_TIME` tokens at a time, whole documents."""
        lengths = self.passages.lengths[rows]
        begins = np.flatnonzero(np.diff(self.documents[rows], prepend=-1))
        chunk = (np.cumsum(lengths) - lengths)[begins] // TOKENS_AT_A_TIME
        borders = [*begins[np.flatnonzero(np.diff(chunk, prepend=-1))], len(rows)]
        for first, stop in pairwise(borders):
            yield self._words_of(rows[first:stop])

    def _words_of(self, rows: np.ndarray) -> _Words:
        """Words of these passages, their headings left out."""
        begins = headings(self.passages, self.documents, rows)
        lengths = self.passages.lengths[rows] - begins
        first = np.cumsum(lengths) - lengths
        within = np.arange(lengths.sum()) - np.repeat(first, lengths) + np.repeat(begins, lengths)
        passage = np.repeat(rows, lengths)
        ids = self.passages.tokens[self.passages.offsets[passage] + within].astype(np.int64)
        barrier = self.is_barrier[ids]
        opens = self.is_word_start[ids] | barrier | (np.diff(passage, prepend=-1) != 0)
        opens |= np.append(False, barrier[:-1])
        starts = np.flatnonzero(opens)
        number = np.cumsum(opens) - 1
        piece = np.arange(len(ids)) - starts[number]
        # A barrier is like no other word: its place, and a bit that no id has, make its key.
        values = np.where(barrier, np.arange(len(ids)) | 2**40, ids + 1).astype(np.uint64)
        pieces = _mixed(values + (piece.astype(np.uint64) << np.uint64(44)))
        keys = np.add.reduceat(pieces, starts) if len(starts) else pieces
        stops = np.append(starts[1:], len(ids)) - starts + within[starts]
        return _Words(keys, passage[starts], self.documents[passage[starts]], within[starts], stops)

    def _common_words(self, rows: np.ndarray) -> np.ndarray:
        """Keys, ascending, of the words in more than `common_share` of the documents, and in more than one."""
        keys, counts = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        for words in self._words(rows):
            order = np.lexsort((words.documents, words.keys))
            key, document = words.keys[order], words.documents[order]
            is_new = (np.diff(key, prepend=key[:1] ^ PRIME) != 0) | (np.diff(document, prepend=-1) != 0)
            keys, place = np.unique(np.concatenate([keys, key[is_new]]), return_inverse=True)
            counts = np.bincount(place, np.concatenate([counts, np.ones(int(is_new.sum()))])).astype(np.int64)
        documents = len(np.unique(self.documents[rows]))
        return keys[counts > max(1, self.common_share * documents)]

    def _of(self, words: _Words, common: np.ndarray, per_document: int, rng: np.random.Generator) -> RecurringSpans:
        """The spans of the documents in `words`."""
        is_edge = ~np.isin(words.keys, common)
        covered = np.zeros(len(words.keys), dtype=np.int64)  # how far a longer run reaches that begins here or before
        parts: list[tuple[np.ndarray, np.ndarray, int]] = []
        for runs in reversed(self._recurring(words)):
            places, stops = runs.places, runs.places + runs.length
            if runs.length <= self.longest:
                fits = is_edge[places] & is_edge[stops - 1]
                wanted = np.unique(runs.group[fits & (covered[places] < stops)])
                kept = np.isin(runs.group, wanted)
                places, stops = places[kept], stops[kept]
                order = np.argsort(runs.group[kept], kind="stable")
                parts.append((places[order], runs.group[kept][order], runs.length))
            covered[places] = np.maximum(covered[places], stops)
            covered = np.maximum.accumulate(covered)
        return self._drawn(words, parts, per_document, rng)

    def _recurring(self, words: _Words) -> list[_Runs]:
        """Runs of `shortest` to `longest` + 1 words that stand in several passages of a document."""
        found = []
        ends = np.searchsorted(words.rows, words.rows, side="right")  # behind the last word of each word's passage
        places, keys = np.arange(len(words.keys)), _mixed(words.documents.astype(np.uint64))
        for length in range(1, self.longest + 2):
            fits = places + length <= ends[places]
            places, keys = places[fits], keys[fits]
            keys = _mixed(keys + words.keys[places + length - 1])
            order = np.argsort(keys, kind="stable")
            is_new = np.diff(keys[order], prepend=keys[order][:1] ^ PRIME) != 0
            group = np.empty(len(places), dtype=np.int64)
            group[order] = np.cumsum(is_new) - 1
            several = ~is_new & (np.diff(words.rows[places[order]], prepend=-1) != 0)
            recurs = (np.bincount(group[order], several) > 0)[group]
            places, keys, group = places[recurs], keys[recurs], group[recurs]
            if length >= self.shortest:
                found.append(_Runs(length, places, group))
        return found

    def _drawn(
        self,
        words: _Words,
        parts: list[tuple[np.ndarray, np.ndarray, int]],
        per_document: int,
        rng: np.random.Generator,
    ) -> RecurringSpans:
        """At most `per_document` of each document's spans; `parts` are places, groups and length in words."""
        firsts = [np.flatnonzero(np.diff(group, prepend=-1)) for _, group, _ in parts]
        counts = np.concatenate([np.diff(np.append(f, len(p[0]))) for f, p in zip(firsts, parts, strict=True)])
        places = np.concatenate([place for place, _, _ in parts])
        lengths = np.concatenate([np.full(len(place), length) for place, _, length in parts])
        begins = np.cumsum(counts) - counts
        documents = words.documents[places[begins]]
        order = np.lexsort((rng.random(len(counts)), documents))
        rank = np.arange(len(order)) - np.searchsorted(documents[order], documents[order])
        spans = np.sort(order[rank < per_document])
        counts = counts[spans]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        kept = np.repeat(begins[spans] - offsets[:-1], counts) + np.arange(offsets[-1])
        places, lengths = places[kept], lengths[kept]
        return RecurringSpans(offsets, words.rows[places], words.starts[places], words.stops[places + lengths - 1])


def _mixed(values: np.ndarray) -> np.ndarray:
    """A hash of uint64 values: SplitMix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number
    Generators")."""
    values = values + PRIME
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
