from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.spider import check
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import CorpusError
from corpusmith.objective import recurring
from corpusmith.objective.config import SpiderConfig
from corpusmith.objective.recurring import RecurringSpans, SpanFinder
from corpusmith.objective.spider import Spider
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train

SPECIAL, FULL_STOP, SIZE = 3, 8, 24
LETTERS = SimpleNamespace(
    size=SIZE,
    special_ids=np.arange(SPECIAL),
    is_word_start=np.arange(SIZE) < 18,  # the others go on the word before them
    encode=lambda texts: [np.array([FULL_STOP]) for _ in texts],
)

corpora = st.lists(
    st.lists(st.lists(st.integers(2, 8) | st.integers(16, 20), max_size=12), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


def passages_of(corpus) -> tuple[TokenShards, np.ndarray]:
    """Shards and documents; every passage begins with a token of its own, so that none has a heading."""
    texts = [[9 + i, *text] for document in corpus for i, text in enumerate(document)]
    documents = np.array([d for d, document in enumerate(corpus) for _ in document])
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return TokenShards(np.array([i for text in texts for i in text], dtype=np.uint16), offsets), documents


def words_of(ids) -> list[tuple[int, ...]]:
    words: list[list[int]] = []
    for position, token in enumerate(ids):
        if position > 0 and token >= 18 and ids[position - 1] >= SPECIAL and ids[position - 1] != FULL_STOP:
            words[-1].append(int(token))
        else:
            words.append([int(token)])
    return [tuple(word) for word in words]


def plainly_found(passages, documents, shortest, longest, common_share) -> set:
    """Spans as (document, words, rows with it), by the definition, with loops."""
    texts = {row: words_of(passages[row]) for row in range(len(passages))}
    holders = defaultdict(set)
    for row, words in texts.items():
        for word in words:
            holders[word].add(documents[row])
    common = {word for word, held in holders.items() if len(held) > max(1, common_share * len(set(documents.tolist())))}
    found = set()
    for document in set(documents.tolist()):
        rows = [row for row in texts if documents[row] == document]
        covered = set()  # (row, first word, behind last word)
        for length in range(longest + 1, shortest - 1, -1):
            places = defaultdict(list)
            for row in rows:
                for i in range(len(texts[row]) - length + 1):
                    span = tuple(texts[row][i : i + length])
                    if not any(token < SPECIAL or token == FULL_STOP for word in span for token in word):
                        places[span].append((row, i, i + length))
            newly = set()
            for span, where in places.items():
                if len({row for row, _, _ in where}) < 2:
                    continue
                if length <= longest:
                    is_free = any(not any(r == row and a <= i and b >= j for r, a, b in covered) for row, i, j in where)
                    if not is_free or span[0] in common or span[-1] in common:
                        continue
                    found.add((document, span, tuple(sorted({row for row, _, _ in where}))))
                newly.update(where)
            covered |= newly
    return found


def as_set(spans: RecurringSpans, passages, documents) -> set:
    found = set()
    for a, b in zip(spans.offsets[:-1], spans.offsets[1:], strict=True):
        texts = {
            tuple(words_of(passages[row][start:stop]))
            for row, start, stop in zip(spans.rows[a:b], spans.starts[a:b], spans.stops[a:b], strict=True)
        }
        assert len(texts) == 1
        found.add((int(documents[spans.rows[a]]), texts.pop(), tuple(sorted(set(spans.rows[a:b].tolist())))))
    assert len(found) == len(spans)
    return found


@given(corpora, st.integers(1, 2), st.integers(2, 4), st.sampled_from([0.3, 0.6, 1.0]), st.sampled_from([1, 10, 10**6]))
def test_spans_are_those_of_the_definition(corpus, shortest, longest, common_share, at_a_time):
    passages, documents = passages_of(corpus)
    before, recurring.TOKENS_AT_A_TIME = recurring.TOKENS_AT_A_TIME, at_a_time
    try:
        finder = SpanFinder(passages, documents, LETTERS, shortest, longest, common_share)
        spans = finder.find(np.arange(len(passages)), 10**6, np.random.default_rng(0))
    finally:
        recurring.TOKENS_AT_A_TIME = before
    expected = plainly_found(passages, documents, shortest, longest, common_share)
    assert as_set(spans, passages, documents) == expected


def test_no_more_spans_are_drawn_from_a_document_than_asked_for():
    passages, documents = passages_of([[[3, 4, 5, 6, 7], [7, 5, 3, 6, 4]], [[3, 4], [4, 3]]])
    finder = SpanFinder(passages, documents, LETTERS, 1, 1, 1.0)
    counts = []
    for most in (10, 2, 1):
        spans = finder.find(np.arange(4), most, np.random.default_rng(0))
        counts.append(np.bincount(documents[spans.rows[spans.offsets[:-1]]]).tolist())
    assert counts == [[5, 2], [2, 2], [1, 1]]


@pytest.fixture
def make(tiny_checkpoint, linked_data):
    def start(checkpoint=None, data=linked_data, **options) -> Spider:
        options = {"common_share": 0.5} | options
        return Spider(SpiderConfig(**options), data, checkpoint or tiny_checkpoint(max_tokens=64), seed=0)

    return start


def is_within(part, whole) -> bool:
    part, whole = list(part), list(whole)
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def span_of(objective, number) -> list[int]:
    spans = objective.spans
    first = spans.offsets[number]
    return objective.data.passages[spans.rows[first]][spans.starts[first] : spans.stops[first]].tolist()


def test_names_are_found_and_titles_are_not(make, tiny_tokenizer):
    objective = make()
    found = {tiny_tokenizer.decode(span_of(objective, number)).replace(" ##", "") for number in range(8)}
    assert len(objective.spans) == 8
    assert {"heat pump", "tail rotor", "array slice"} <= found
    assert not any("note" in span for span in found)


def test_collating_is_deterministic(make):
    objective = make()
    first, second = (objective.collate(range(8), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first.inputs.pieces[0].ids, second.inputs.pieces[0].ids)
    assert torch.equal(first.inputs.excluded, second.inputs.excluded)


@pytest.mark.parametrize("deletion_rate", [0.0, 1.0])
def test_query_positive_and_negative_stand_to_the_span_as_they_should(make, texts_of, linked_data, deletion_rate):
    objective = make(deletion_rate=deletion_rate, shortest_query=12, longest_query=14)
    for seed in range(5):
        batch = objective.collate(range(8), np.random.default_rng(seed))
        texts = [text[1:-1].tolist() for text in texts_of(batch.inputs.pieces)]
        queries, positives, negatives = texts[:8], texts[8:16], texts[16:]
        for number in range(8):
            span, document = span_of(objective, number), linked_data.documents[objective.spans.rows[2 * number]]
            passages = [linked_data.passages[row].tolist() for row in range(3 * document, 3 * document + 3)]
            assert positives[number] in passages
            assert is_within(span, positives[number])
            (own,) = [negative for negative in negatives if negative in passages]
            assert not is_within(span, own)
            assert is_within(span, queries[number]) == (deletion_rate == 0.0)
            if deletion_rate == 0.0:
                (source,) = [passage for passage in passages if is_within(queries[number], passage)]
                assert source != positives[number]
                assert len(span) <= len(queries[number]) <= max(14, len(span))
                assert objective.tokenizer.is_word_start[queries[number][0]]


def test_loss_and_gradients_are_those_of_plain_infonce(
    make, tiny_checkpoint, texts_of, unit_vectors, plain_info_nce, assert_equal_losses
):
    objective, encoder = make(temperature=0.1), tiny_checkpoint().encoder
    batch = objective.collate([0, 3, 5], np.random.default_rng(0))
    texts = texts_of(batch.inputs.pieces)
    assert len(texts) == 9
    vectors = unit_vectors(encoder, texts)
    candidates = [[i, *(j for j in range(6) if j != i)] for i in range(3)]
    expected = plain_info_nce(vectors[:3], vectors[3:], candidates, 0.1)
    assert_equal_losses(objective.loss(encoder, batch).total, expected, encoder)


def test_other_passages_of_the_document_are_no_negatives_apart_from_the_querys_own(make, linked_data):
    """Two spans of one document: neither the other's positive nor the other's negative counts, unless it is the own."""
    objective = make(data=replace(linked_data, documents=np.zeros(24, dtype=np.int64)), common_share=1.0)
    batch = objective.collate([0, 1], np.random.default_rng(1))
    excluded = batch.inputs.excluded
    assert not excluded[0, 0]
    assert not excluded[1, 1]
    assert (~excluded[:, 2:]).sum(dim=1).tolist() == [1, 1]


def test_where_every_passage_has_the_span_there_is_no_negative(make, linked_data):
    rows = np.concatenate([np.array([3 * d, 3 * d + 1]) for d in range(8)])
    objective = make(data=replace(linked_data, rows=rows))
    assert len(objective.collate(range(8), np.random.default_rng(0)).lengths) == 16


def test_lengths_foretell_what_batches_cost(make):
    objective = make(shortest_query=8, longest_query=12)
    spent = sum(objective.collate(range(8), np.random.default_rng(seed)).tokens for seed in range(20)) / 20
    assert objective.lengths().sum() == pytest.approx(spent, rel=0.15)


def test_a_corpus_in_which_nothing_recurs_is_one_clear_sentence(make, linked_data):
    with pytest.raises(CorpusError, match="no span of words recurs"):
        make(data=replace(linked_data, documents=np.arange(24)))
    with pytest.raises(CorpusError, match="no span of words recurs"):
        make(data=replace(linked_data, rows=np.array([], dtype=np.int64)))


def test_training_lowers_the_loss(make, tiny_checkpoint, tmp_path):
    checkpoint = tiny_checkpoint(max_tokens=64)
    objective = make(checkpoint, deletion_rate=0)
    batch = objective.collate(range(8), np.random.default_rng(0))
    before = float(objective.loss(checkpoint.encoder, batch).total.detach())
    config = TrainingConfig(batch_tokens=600, learning_rate=3e-3, evaluations=0, max_epochs=10**6, precision="float32")
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=10_000), tmp_path, seed=0)
    assert float(objective.loss(checkpoint.encoder, batch).total.detach()) < 0.7 * before
    assert check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"shortest_span": 4, "longest_span": 3},
        {"shortest_query": 31},
        {"common_share": 0},
        {"deletion_rate": 1.5},
        {"longest_span": 51},
        {"spans_per_document": 0},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        SpiderConfig(**wrong)
