from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.vocabulary.merges import Span, best_spans, joiner, pairs
from corpusmith.vocabulary.words import Pieces

join = joiner("")


def by_text(sequence: Pieces) -> list[Span]:
    places = range(len(sequence) + 1)
    return [(join(sequence[a:b]), a, b) for a in places for b in places if b - a > 1]


def recounting(counted: dict[Pieces, int], spans: Callable[[Pieces], list[Span]], least: int) -> list[tuple[Any, int]]:
    """The same, slowly: everything is counted anew each time."""
    found = []
    while True:
        saved: Counter[Any] = Counter()
        for sequence, count in counted.items():
            for key, first, last in spans(sequence):
                saved[key] += count * (last - first - 1)
        best = min(saved.items(), key=lambda entry: (-entry[1], entry[0]), default=(None, 0))
        if best[1] < least:
            return found
        found.append(best)
        joined: Counter[Pieces] = Counter()
        for sequence, count in counted.items():
            joined[replaced(sequence, best[0], spans)] += count
        counted = dict(joined)


def replaced(sequence: Pieces, key: Any, spans: Callable[[Pieces], list[Span]]) -> Pieces:
    for other, first, last in spans(sequence):
        if other == key:
            return (*sequence[:first], join(sequence[first:last]), *replaced(sequence[last:], key, spans))
    return sequence


words = st.dictionaries(st.text("ab#", min_size=1, max_size=6).map(tuple), st.integers(1, 4), min_size=1, max_size=8)


@given(words, st.integers(1, 5))
@pytest.mark.parametrize("spans", [pairs, by_text])
def test_savings_are_those_of_counting_anew(
    spans: Callable[[Pieces], list[Span]], counted: dict[Pieces, int], least: int
) -> None:
    assert list(best_spans(counted, spans, join, least)) == recounting(counted, spans, least)


def test_pairs_are_joined_as_in_byte_pair_encoding() -> None:
    counted = {tuple(word): count for word, count in {"low": 5, "lower": 2, "newest": 6, "widest": 3}.items()}
    merges = [pair for pair, _ in islice(best_spans(counted, pairs, join, 2), 4)]
    assert merges == [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")]


def test_the_order_of_words_does_not_matter(sentences: list[str]) -> None:
    counted = Counter(tuple(word) for word in " ".join(sentences).split())
    turned = dict(reversed(counted.items()))
    assert list(best_spans(counted, pairs, join, 2)) == list(best_spans(turned, pairs, join, 2))


@pytest.mark.parametrize(
    ("prefix", "span", "piece"),
    [("##", ("im", "##mun", "##o"), "immuno"), ("##", ("##mun", "##o"), "##muno"), ("", ("▁im", "mun"), "▁immun")],
)
def test_marks_inside_a_piece_are_dropped(prefix: str, span: Sequence[str], piece: str) -> None:
    assert joiner(prefix)(span) == piece
