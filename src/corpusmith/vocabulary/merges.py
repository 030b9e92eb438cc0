"""Which pieces save the most tokens, found one after the other.

A span of n neighbouring pieces that becomes one piece saves n - 1 tokens at each of its occurrences. The span that
saves the most is joined wherever it occurs, what the others save is counted anew, and so on. With spans of two pieces
this is byte pair encoding (Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword
Units", section 3.2); with longer ones a word of many pieces becomes one without those in between.

Of spans that save the same the first in alphabetical order is taken, and nothing else depends on an order: the same
counts give the same pieces. The trainers of the `tokenizers` library go through words in the order of a hash table
with a random seed, which gives the letters of a WordPiece vocabulary other ids in every run and decides ties by them;
hence learning is done here, and the library runs what was learned.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from corpusmith.vocabulary.words import Pieces

Span = tuple[Any, int, int]
"""A key by which spans that become the same piece are counted together, the span's first place, its last plus one."""


def pairs(sequence: Pieces) -> list[Span]:
    """All spans of two pieces, counted together where both pieces are the same."""
    return [(pair, place, place + 2) for place, pair in enumerate(pairwise(sequence))]


def joiner(prefix: str) -> Callable[[Sequence[str]], str]:
    """Gives the piece that a span becomes; `prefix` marks pieces that go on: "im" and "##mun" become "immun"."""

    def join(pieces: Sequence[str]) -> str:
        return pieces[0] + "".join([piece.removeprefix(prefix) for piece in pieces[1:]])

    return join


def best_spans(
    counted: Mapping[Pieces, int],
    spans: Callable[[Pieces], list[Span]],
    join: Callable[[Sequence[str]], str],
    least: int,
) -> Iterator[tuple[Any, int]]:
    """The key of the span that saves the most and how many tokens it saves, again and again, each joined before the
    next is looked for; ends when none saves `least`.

    Args:
        counted: sequences of pieces with their counts.
        spans: the spans of a sequence that may be joined, by their first place.
        join: the piece that a span becomes.
        least: tokens that a span must save, at least 1.
    """
    sequences, counts = list(counted), list(counted.values())
    saved: defaultdict[Any, int] = defaultdict(int)
    places: defaultdict[Any, set[int]] = defaultdict(set)
    for number, sequence in enumerate(sequences):
        for key, first, last in spans(sequence):
            saved[key] += counts[number] * (last - first - 1)
            places[key].add(number)
    queue = [(-tokens, key) for key, tokens in saved.items() if tokens >= least]
    heapq.heapify(queue)
    while queue:
        told, key = heapq.heappop(queue)
        tokens = saved.get(key, 0)
        if tokens != -told:
            if least <= tokens < -told:  # it saves less since it was put in; what saves more was put in again
                heapq.heappush(queue, (-tokens, key))
            continue
        yield key, tokens
        changes: defaultdict[Any, int] = defaultdict(int)
        for number in places.pop(key):
            before = spans(sequences[number])
            joined = _joined(sequences[number], before, key, join)
            for other, first, last in before:
                changes[other] -= counts[number] * (last - first - 1)
            for other, first, last in spans(joined):
                changes[other] += counts[number] * (last - first - 1)
                places[other].add(number)
            sequences[number] = joined
        for other, change in changes.items():
            saved[other] += change
            if saved[other] <= 0:
                del saved[other]
                places.pop(other, None)
            elif change > 0 and saved[other] >= least:
                heapq.heappush(queue, (-saved[other], other))


def _joined(sequence: Pieces, spans: list[Span], key: Any, join: Callable[[Sequence[str]], str]) -> Pieces:
    """The sequence with all spans of this key joined, from the left where they overlap."""
    joined: list[str] = []
    done = 0
    for other, first, last in spans:
        if other == key and first >= done:
            joined += [*sequence[done:first], join(sequence[first:last])]
            done = last
    return (*joined, *sequence[done:])
