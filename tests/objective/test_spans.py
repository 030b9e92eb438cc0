from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpusmith.corpus.shards import TokenShards
from corpusmith.objective.spans import LONGEST_HEADING, SentenceSpans, delete_tokens, draw_crop, headings

texts = st.lists(st.integers(5, 30), min_size=1, max_size=60).map(lambda ids: np.array(ids, dtype=np.uint16))


def shards(*passages) -> TokenShards:
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in passages])]).astype(np.int64)
    return TokenShards(np.array([i for p in passages for i in p], dtype=np.uint16), offsets)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts, st.integers(0, 59), st.integers(0, 99), st.integers(1, 12), st.integers(0, 20))
def test_a_sentence_lies_behind_the_heading_and_leaves_some_of_its_passage(
    tiny_tokenizer, ids, begin, seed, shortest, more
):
    begin = min(begin, len(ids) - 1)
    start, stop = SentenceSpans(tiny_tokenizer, shortest, shortest + more).draw(ids, begin, np.random.default_rng(seed))
    assert begin <= start < stop <= len(ids)
    assert stop - start <= shortest + more
    assert stop - start < len(ids) - begin or len(ids) - begin == 1


def test_sentences_are_those_of_the_text(tiny_tokenizer, sentences):
    (ids,) = tiny_tokenizer.encode([" ".join(sentences[:3])])
    spans = SentenceSpans(tiny_tokenizer, 4, 60)
    drawn = {spans.draw(ids, 0, np.random.default_rng(seed)) for seed in range(40)}
    lengths = [len(part) for part in tiny_tokenizer.encode(sentences[:3])]
    ends = np.cumsum(lengths)
    assert drawn == {(int(end - length), int(end)) for end, length in zip(ends, lengths, strict=True)}


def test_a_short_sentence_is_taken_together_with_the_next(tiny_tokenizer):
    (ids,) = tiny_tokenizer.encode(["It is. The heart pumps blood. A lease gives the tenant the right."])
    first = int(np.flatnonzero(ids == ids[-1])[1]) + 1
    spans = SentenceSpans(tiny_tokenizer, 5, 60)
    assert (0, first) in {spans.draw(ids, 0, np.random.default_rng(seed)) for seed in range(20)}


@given(texts, st.integers(0, 99))
def test_crops_have_lengths_between_the_two_shares(ids, seed):
    crop = draw_crop(ids, 0.2, 0.6, np.random.default_rng(seed))
    assert max(1, round(0.2 * len(ids))) <= len(crop) <= max(1, round(0.6 * len(ids)))
    assert any((ids[i : i + len(crop)] == crop).all() for i in range(len(ids) - len(crop) + 1))


def test_tokens_are_deleted_at_the_rate_asked_for_and_one_always_stays():
    rng = np.random.default_rng(0)
    kept = [len(delete_tokens(np.arange(50), 0.3, rng)) for _ in range(200)]
    assert np.mean(kept) == pytest.approx(35, abs=0.8)
    assert {len(delete_tokens(np.arange(3), 0.999, rng)) for _ in range(20)} == {1}
    assert len(delete_tokens(np.arange(50), 0.0, rng)) == 50


def test_a_heading_is_what_a_passage_and_a_neighbour_begin_with():
    passages = shards([7, 8, 1, 2, 3], [7, 8, 4, 5, 6], [7, 9, 4, 5], [7, 8, 1, 2], [3, 3, 3], [3, 3, 3])
    documents = np.array([0, 0, 0, 1, 2, 2])
    assert headings(passages, documents, np.arange(6)).tolist() == [2, 2, 1, 0, 0, 0]
    assert headings(passages, documents, np.array([2, 0])).tolist() == [1, 2]


def test_copied_text_is_no_heading():
    copied = list(range(5, 5 + LONGEST_HEADING))
    passages = shards([*copied, 1, 2], [*copied, 3, 4])
    assert headings(passages, np.array([0, 0]), np.arange(2)).tolist() == [0, 0]
