from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.shards import TokenShards
from corpusmith.objective import statistics
from corpusmith.objective.statistics import (
    K1,
    WINDOW,
    B,
    KeyCounts,
    WordStatistics,
    count_pairs,
    count_terms,
    count_words,
    word_at,
    word_keys,
    words_begin,
)

SIZE = 12
passages = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=12), min_size=1, max_size=10)
few_tokens = st.sampled_from([3, 7, 1000])


def shards_of(texts) -> TokenShards:
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return TokenShards(np.array([i for text in texts for i in text], dtype=np.uint16), offsets)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(statistics, "CHUNK_TOKENS", 7)


@given(passages)
def test_terms_are_counted_once_a_passage_and_only_in_the_rows_asked_for(texts):
    rows = np.arange(len(texts))[::2]
    found = count_terms(shards_of(texts), rows, SIZE)
    expected = [sum(term in texts[row] for row in rows) for term in range(SIZE)]
    assert found.document_frequencies.tolist() == expected
    assert found.passages == len(rows)
    assert found.mean_length == pytest.approx(np.mean([len(texts[row]) for row in rows]))


def test_cutting_into_chunks_changes_no_count(small_chunks):
    texts = np.random.default_rng(0).integers(0, SIZE, (20, 5)).tolist()
    rows = np.arange(20)
    pieces = list(statistics.chunks(shards_of(texts), rows))
    assert len(pieces) > 5
    assert np.concatenate([piece.ids for piece in pieces]).tolist() == list(chain.from_iterable(texts))
    assert [number for piece in pieces for number in piece.places] == list(range(100))
    found = count_terms(shards_of(texts), rows, SIZE)
    assert found.document_frequencies.tolist() == [sum(term in text for text in texts) for term in range(SIZE)]


def test_weights_are_those_of_bm25():
    texts = [[1, 2, 2, 3], [2, 4], [2, 5, 5, 5, 6, 7]]
    terms = count_terms(shards_of(texts), np.arange(3), SIZE)
    ids, lengths = np.array(list(chain.from_iterable(texts))), np.array([4, 2, 6])
    found = terms.bm25(ids, lengths)
    place = 0
    for text in texts:
        for term in text:
            df, tf = sum(term in other for other in texts), text.count(term)
            idf = np.log(1 + (3 - df + 0.5) / (df + 0.5))
            expected = idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * len(text) / 4))
            assert found[place] == pytest.approx(expected)
            place += 1
    assert (found > 0).all()
    assert found[ids == 2].max() < found[ids != 2].min()


@given(passages)
def test_mutual_information_is_that_of_a_plain_count(texts):
    pairs, singles = Counter(), Counter()
    for text in texts:
        for i in range(len(text)):
            for j in range(i + 1, min(len(text), i + WINDOW + 1)):
                pairs[tuple(sorted((text[i], text[j])))] += 1
                singles.update([text[i], text[j]])
    found = count_pairs(shards_of(texts), np.arange(len(texts)), SIZE)
    values = dict(zip(found.keys.tolist(), found.values.tolist(), strict=True))
    events = sum(pairs.values())
    for (a, b), together in pairs.items():
        p = {token: singles[token] / (2 * events) for token in (a, b)}
        information = np.log(together / events / ((1 if a == b else 2) * p[a] * p[b]))
        rarer = min(singles[a], singles[b])
        information *= together / (together + 1) * rarer / (rarer + 1)
        assert values.pop(a * SIZE + b, 0.0) == pytest.approx(max(0.0, information), abs=1e-5)
    assert not values


def test_informativeness_is_the_mean_over_the_neighbours_of_the_same_passage():
    texts = [[1, 2, 3], [1, 2, 4], [3, 4, 3, 4], [5, 3]]
    pairs = count_pairs(shards_of(texts), np.arange(4), SIZE)
    value = defaultdict(float, zip(pairs.keys.tolist(), pairs.values.tolist(), strict=True))
    found = pairs.informativeness(np.array([1, 2, 3, 2, 6]), np.array([3, 1, 1]))
    one_two, one_three, two_three = value[SIZE + 2], value[SIZE + 3], value[2 * SIZE + 3]
    assert one_two > 0
    expected = [(one_two + one_three) / 2, (one_two + two_three) / 2, (one_three + two_three) / 2, 0, 0]
    assert found == pytest.approx(expected)


def test_of_a_large_corpus_every_nth_passage_is_read(monkeypatch):
    texts = [[1, 2, 1, 2] if i % 4 == 0 else [3, 4, 5, 6] for i in range(40)]
    monkeypatch.setattr(statistics, "PAIR_TOKENS", 40)
    assert count_pairs(shards_of(texts), np.arange(40), SIZE).keys.max() < 3 * SIZE


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 5)), max_size=60), st.integers(1, 7))
def test_keys_are_summed_and_keep_their_first_example(found, cut):
    counted = KeyCounts(columns=2)
    for start in range(0, len(found), cut):
        part = found[start : start + cut]
        keys = np.array([key for key, _ in part], dtype=np.int64)
        counts = np.array([[count, 1] for _, count in part], dtype=np.int64)
        counted.add(keys, counts, np.arange(start, start + len(part)))
    keys, counts, examples = counted.result()
    sums = Counter()
    for key, count in found:
        sums[key] += count
    assert dict(zip(keys.tolist(), counts[:, 0].tolist(), strict=True)) == sums
    assert keys.tolist() == sorted(sums)
    assert all(found[example][0] == key for key, example in zip(keys, examples, strict=True))
    assert all(key not in [k for k, _ in found[:example]] for key, example in zip(keys, examples, strict=True))


def test_of_too_many_keys_the_rarest_are_forgotten():
    counted = KeyCounts(columns=1, held=400)
    rng = np.random.default_rng(0)
    for _ in range(50):
        keys = np.concatenate([np.arange(10), rng.integers(1000, 10**6, 90)])
        counted.add(keys, np.ones((100, 1), dtype=np.int64), keys)
        assert len(counted._keys) + counted._number_waiting <= 400
    keys, counts, _ = counted.result()
    assert keys[:10].tolist() == list(range(10))
    assert (counts[:10, 0] == 50).all()
    assert len(keys) <= 400


IS_START = np.arange(SIZE) % 3 != 0  # every third piece goes on the word before it
IS_ORDINARY = np.arange(SIZE) > 1


@given(passages)
def test_words_are_runs_of_pieces_and_have_the_same_key_wherever_they_stand(texts):
    ids = np.array(list(chain.from_iterable(texts)), dtype=np.int64)
    sequence = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    starts, keys = word_keys(ids, sequence, IS_START, IS_ORDINARY)
    words = []
    for text in texts:
        for place, token in enumerate(text):
            goes_on = token % 3 == 0 and token > 1 and place > 0 and text[place - 1] > 1
            if goes_on:
                words[-1] += (token,)
            else:
                words.append((token,))
    assert starts.tolist() == np.flatnonzero(words_begin(ids, sequence, IS_START, IS_ORDINARY)).tolist()
    assert len(keys) == len(words)
    for one, word in zip(keys, words, strict=True):
        assert [other == word for other in words] == [bool(key == one) for key in keys]


def test_words_are_counted_without_common_and_special_ones_and_can_be_read_back(small_chunks):
    texts = [[4, 3, 5], [4, 3, 7, 7], [4, 3, 8], [0, 8, 1], [10, 4, 3], [4, 3, 4, 3], [4, 3]]
    shards = shards_of(texts)
    assert len(count_words(shards, np.arange(6), IS_START, IS_ORDINARY, common_share=0.5).common) == 0
    found = count_words(shards, np.arange(7), IS_START, IS_ORDINARY, common_share=0.5)
    words = [tuple(word_at(shards, example).tolist()) for example in found.examples]
    assert dict(zip(words, found.occurrences.tolist(), strict=True)) == {(5,): 1, (7,): 2, (8,): 2, (10,): 1}
    assert len(found.common) == 1  # (4, 3) is in six of seven passages
    keys = word_keys(np.array([4, 3, 5]), np.zeros(3), IS_START, IS_ORDINARY)[1]
    assert found.is_common(keys).tolist() == [True, False]
    drawn = found.drawn(np.random.default_rng(0).random(6000))
    assert np.bincount(drawn) / 1000 == pytest.approx(found.occurrences, abs=0.15)


def test_likelihood_is_that_of_the_smoothed_unigram_model():
    counted = KeyCounts(columns=2)
    counted.add(np.array([1, 2, 3]), np.array([[5, 2], [3, 2], [9, 9]]), np.zeros(3, dtype=np.int64))
    words = WordStatistics.of(counted, passages=10, common_share=0.5)
    document = np.array([1, 1, 2])
    found = words.log_likelihood(np.array([[1, 2], [2, 2], [1, 77]]), document, smoothing=4.0)
    p = {1: (2 + 4 * 5 / 8) / 7, 2: (1 + 4 * 3 / 8) / 7, 77: (4 * 1 / 8) / 7}
    assert found == pytest.approx(np.log([p[1] * p[2], p[2] * p[2], p[1] * p[77]]))
