from __future__ import annotations

import random

import numpy as np
import pytest

from corpusmith.corpus import deduplicate, spill
from corpusmith.corpus.deduplicate import Deduplicator, Duplicate, bands_and_rows

VOCABULARY = [f"word{number}" for number in range(5000)]


def text_of(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=words))


def with_changes(text: str, changes: int, seed: int) -> str:
    words = text.split()
    for place in random.Random(seed).sample(range(len(words)), changes):
        words[place] = f"changed{place}"
    return " ".join(words)


def jaccard(one: str, other: str) -> float:
    """By definition, on sets of five words: the oracle."""
    first, second = ({tuple(text.split()[i : i + 5]) for i in range(len(text.split()) - 4)} for text in (one, other))
    return len(first & second) / len(first | second)


def test_the_same_text_is_an_exact_duplicate_whatever_its_case():
    found = Deduplicator(0.85)
    assert found.add("a", "The cat sat on the mat") is None
    assert found.add("b", "the cat SAT on the mat") == Duplicate("a", 1.0, exact=True)


def test_punctuation_makes_a_near_duplicate():
    found = Deduplicator(0.85)
    found.add("a", "The cat sat on the mat.")
    assert found.add("b", "The cat -- sat on the mat!") == Duplicate("a", 1.0, exact=False)


def test_a_few_changed_words_make_a_near_duplicate_with_its_similarity():
    original = text_of(300, seed=1)
    changed = with_changes(original, 3, seed=1)
    found = Deduplicator(0.85)
    found.add("a", original)
    duplicate = found.add("b", changed)
    assert duplicate is not None
    assert (duplicate.of, duplicate.exact) == ("a", False)
    assert duplicate.similarity == pytest.approx(jaccard(original, changed), abs=0.1)


def test_similarities_far_from_the_threshold_are_told_apart():
    wrong = 0
    for seed in range(60):
        original = text_of(300, seed)
        for changes, expected in ((2, True), (12, False)):  # Jaccard similarities of about .93 and .67
            found = Deduplicator(0.85)
            found.add("a", original)
            wrong += (found.add("b", with_changes(original, changes, seed)) is not None) != expected
    assert wrong == 0


def test_estimates_are_unbiased():
    errors = []
    for seed in range(100):
        original = text_of(200, seed)
        changed = with_changes(original, 8, seed)
        found = Deduplicator(0.3, seed=seed)
        found.add("a", original)
        duplicate = found.add("b", changed)
        assert duplicate is not None
        errors.append(duplicate.similarity - jaccard(original, changed))
    assert abs(np.mean(errors)) < 0.015  # three standard errors of the mean
    assert np.std(errors) < 0.06


def test_short_texts_of_different_words_are_different():
    found = Deduplicator(0.85)
    assert [found.add(str(number), f"Section {number}: repealed") for number in range(50)] == [None] * 50


def test_chinese_is_compared_by_characters():
    found = Deduplicator(0.7)
    text = "".join(chr(0x4E00 + number) for number in range(300))
    found.add("a", text)
    assert found.add("b", text[:150] + "猫" + text[150:]) is not None
    assert found.add("c", "".join(chr(0x6E00 + number) for number in range(300))) is None


def test_near_duplicates_are_not_remembered_so_that_chains_of_small_changes_break():
    found = Deduplicator(0.85)
    texts = [text_of(300, seed=5)]
    for step in range(12):
        texts.append(with_changes(texts[-1], 2, seed=step))
    assert found.add("0", texts[0]) is None
    assert {found.add(str(number), text) is None for number, text in enumerate(texts[1:], start=1)} == {True, False}


def test_the_earliest_of_several_equals_is_named():
    found = Deduplicator(0.95)
    original = text_of(100, seed=3)
    found.add("first", with_changes(original, 5, seed=1))
    found.add("second", with_changes(original, 5, seed=2))
    assert found.add("third", with_changes(original, 5, seed=1) + " !") == Duplicate("first", 1.0, exact=False)


def test_what_was_seen_long_ago_is_still_found(monkeypatch):
    """Hashes move from the dictionary to sorted runs, and these into larger ones, many times here."""
    monkeypatch.setattr(spill, "RECENT_PAIRS", 64)
    found = Deduplicator(0.85)
    texts = [text_of(60, seed) for seed in range(1500)]
    assert all(found.add(str(number), text) is None for number, text in enumerate(texts))
    for number in (0, 1, 700, 1499):
        assert found.add("again", f"{texts[number]}?") == Duplicate(str(number), 1.0, exact=False)


def test_the_outcome_depends_on_the_texts_alone():
    texts = [with_changes(text_of(80, seed % 7), seed % 5, seed) for seed in range(60)]
    outcomes = []
    for _ in range(2):
        found = Deduplicator(0.85)
        outcomes.append([found.add(str(number), text) for number, text in enumerate(texts)])
    assert outcomes[0] == outcomes[1]
    assert any(outcomes[0])


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold):
    bands, rows = bands_and_rows(threshold)
    assert bands * rows <= deduplicate.PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** bands >= deduplicate.RECALL


def test_at_a_threshold_of_one_a_changed_word_makes_a_difference():
    found = Deduplicator(1.0)
    original = text_of(300, seed=8)
    found.add("a", original)
    assert found.add("b", with_changes(original, 3, seed=0)) is None
    assert found.add("c", f"{original}.") == Duplicate("a", 1.0, exact=False)


@pytest.mark.parametrize("threshold", [1e-300, 5e-324, 1e-9])
def test_the_smallest_thresholds_look_at_everything(threshold: float) -> None:
    assert bands_and_rows(threshold) == (deduplicate.PERMUTATIONS, 1)
