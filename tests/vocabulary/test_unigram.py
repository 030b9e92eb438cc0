from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from corpusmith.vocabulary.unigram import _Lattice, fit_unigram


def words_of(sentences: list[str]) -> dict[str, int]:
    return dict(Counter("▁" + word for sentence in sentences for word in sentence.split()))


def ways(word: str, pieces: dict[str, float]) -> Iterator[list[str]]:
    if not word:
        yield []
    for end in range(1, len(word) + 1):
        if word[:end] in pieces:
            for rest in ways(word[end:], pieces):
                yield [word[:end], *rest]


PIECES = {"a": -1.5, "b": -2.0, "c": -2.5, "ab": -2.0, "bc": -3.0, "abc": -2.2, "ca": -2.8}
WORDS = {"abc": 3, "abcab": 2, "cab": 1, "a": 4}


def test_expected_counts_are_those_of_all_ways_to_write_each_word() -> None:
    expected: Counter[str] = Counter()
    for word, count in WORDS.items():
        chances = [(way, math.exp(sum(PIECES[piece] for piece in way))) for way in ways(word, PIECES)]
        for way, chance in chances:
            for piece in way:
                expected[piece] += count * chance / sum(chance for _, chance in chances)
    lattice = _Lattice(list(WORDS), PIECES)
    found = lattice.expected(np.array(list(PIECES.values())), np.array(list(WORDS.values()), dtype=float))
    assert found == pytest.approx([expected[piece] for piece in PIECES])


def test_the_best_way_is_found_and_a_string_itself_left_out_on_request() -> None:
    scores = np.array(list(PIECES.values()))
    best = [max(sum(PIECES[piece] for piece in way) for way in ways(word, PIECES)) for word in WORDS]
    assert _Lattice(list(WORDS), PIECES).best(scores) == pytest.approx(best)
    assert _Lattice(["abc", "a"], PIECES, whole=False).best(scores) == pytest.approx([-4.5, -np.inf])


def test_pieces_left_out_of_a_lattice_count_no_more() -> None:
    scores, counts = np.array(list(PIECES.values())), np.array(list(WORDS.values()), dtype=float)
    kept = np.array([piece not in ("abc", "b") or len(piece) == 1 for piece in PIECES])
    lattice = _Lattice(list(WORDS), PIECES)
    lattice.keep(kept)
    fewer = [piece for piece, stays in zip(PIECES, kept, strict=True) if stays]
    assert lattice.expected(scores[kept], counts) == pytest.approx(
        _Lattice(list(WORDS), fewer).expected(scores[kept], counts)
    )


@pytest.mark.parametrize("size", [60, 120, 240])
def test_a_vocabulary_has_all_letters_its_size_and_probabilities(size: int, sentences: list[str]) -> None:
    words = words_of(sentences)
    scores = fit_unigram(words, size)
    assert set("".join(words)) <= set(scores)
    assert len(scores) == size
    assert 0.5 < sum(math.exp(score) for score in scores.values()) <= 1.001
    assert list(scores.values()) == sorted(scores.values(), reverse=True)


def test_common_words_become_pieces_and_words_get_likelier_with_size(sentences: list[str]) -> None:
    words = words_of(sentences)
    assert "▁the" in fit_unigram(words, 120)
    likelihoods = []
    for size in (60, 120, 250):
        scores = fit_unigram(words, size)
        best = _Lattice(list(words), scores).best(np.array(list(scores.values())))
        likelihoods.append(float(best @ np.array(list(words.values()))))
    assert likelihoods == sorted(likelihoods)


def test_few_words_give_fewer_pieces_than_asked_for() -> None:
    assert set(fit_unigram({"▁a": 1}, 100)) == {"▁", "a"}
