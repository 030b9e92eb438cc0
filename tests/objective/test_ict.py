from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.ict import check
from pydantic import ValidationError

from corpusmith.errors import CorpusError
from corpusmith.objective.config import ICTConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.ict import REPEATS, InverseCloze
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train

ALONE = {
    "ict": {},
    "bfs": {"ict_share": 0, "bfs_share": 1},
    "wlp": {"ict_share": 0, "wlp_share": 1},
    "all": {"bfs_share": 1, "wlp_share": 1},
}


@pytest.fixture
def make(tiny_checkpoint, linked_data):
    def start(checkpoint=None, data=linked_data, **options) -> InverseCloze:
        return InverseCloze(ICTConfig(**options), data, checkpoint or tiny_checkpoint(max_tokens=64), seed=0)

    return start


def is_within(part, whole) -> bool:
    part, whole = part.tolist(), whole.tolist()
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


@pytest.mark.parametrize("name", ALONE)
def test_collating_is_deterministic(make, name):
    objective = make(**ALONE[name])
    first, second = (objective.collate(range(7), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first.inputs.pieces[0].ids, second.inputs.pieces[0].ids)
    assert torch.equal(first.inputs.excluded, second.inputs.excluded)
    other = objective.collate(range(7), np.random.default_rng(4))
    assert first.lengths.tolist() != other.lengths.tolist()


@pytest.mark.parametrize("keep_rate", [0.0, 1.0])
def test_a_sentence_and_the_rest_make_the_passage(make, texts_of, linked_data, keep_rate):
    objective = make(keep_rate=keep_rate)
    batch = objective.collate(range(24), np.random.default_rng(0))
    texts = [text[1:-1] for text in texts_of(batch.inputs.pieces)]
    for query, positive, (place, _, _) in zip(texts[:24], texts[24:], objective.examples, strict=True):
        passage = torch.from_numpy(linked_data.passages[objective.rows[place]].astype(np.int64))
        if keep_rate:
            assert torch.equal(positive, passage[:62])
            assert is_within(query, passage)
        else:
            both = torch.cat([positive, query])
            assert torch.equal(both.sort().values, passage.sort().values)
            assert not is_within(query, positive)


def test_queries_do_not_hold_the_title(make, texts_of, linked_data):
    objective = make(**ALONE["all"])
    title = torch.from_numpy(linked_data.passages[0][:3].astype(np.int64))
    texts = texts_of(objective.collate(range(len(objective.examples)), np.random.default_rng(0)).inputs.pieces)
    assert not any(is_within(title, text) for text in texts[: len(objective.examples)])
    assert all(is_within(title, text) for text in texts[len(objective.examples) :])


def test_bfs_pairs_the_first_passage_with_another_of_its_document(make, texts_of, linked_data):
    objective = make(**ALONE["bfs"])
    assert len(objective.examples) == 8
    drawn = set()
    for seed in range(10):
        texts = texts_of(objective.collate(range(8), np.random.default_rng(seed)).inputs.pieces)
        for number, (query, positive) in enumerate(zip(texts[:8], texts[8:], strict=True)):
            document = objective.examples[number, 0] // 3
            rows = [row for row in range(24) if np.array_equal(positive[1:-1].numpy(), linked_data.passages[row][:62])]
            assert len(rows) == 1
            assert rows[0] // 3 == document
            assert rows[0] % 3 > 0
            drawn.add(rows[0])
            assert is_within(query[1:-1], linked_data.passages[3 * document])
    assert len(drawn) == 16


def test_wlp_pairs_a_document_with_passages_of_those_that_link_to_it(make, texts_of, linked_data):
    objective = make(**ALONE["wlp"])
    assert len(objective.examples) == 7
    texts = texts_of(objective.collate(range(7), np.random.default_rng(0)).inputs.pieces)
    for number, (query, positive) in enumerate(zip(texts[:7], texts[7:], strict=True)):
        linked = objective.examples[number, 0] // 3
        assert is_within(query[1:-1], linked_data.passages[3 * linked])
        assert any(is_within(positive[1:-1], linked_data.passages[3 * (linked - 1) + i]) for i in range(3))


@pytest.mark.parametrize("name", ALONE)
def test_loss_and_gradients_are_those_of_plain_infonce(
    make, tiny_checkpoint, texts_of, unit_vectors, plain_info_nce, assert_equal_losses, name
):
    objective, encoder = make(temperature=0.1, **ALONE[name]), tiny_checkpoint().encoder
    examples = np.arange(0, len(objective.examples), max(1, len(objective.examples) // 7))
    batch = objective.collate(examples, np.random.default_rng(1))
    size = len(examples)
    texts = texts_of(batch.inputs.pieces)
    source, first, _ = objective.examples[examples].T
    positive_documents, query_documents = first // 3, source // 3
    vectors = unit_vectors(encoder, texts)
    candidates = []
    for i in range(size):
        others = [
            j
            for j in range(size)
            if positive_documents[j] not in (positive_documents[i], query_documents[i])
            and not torch.equal(texts[size + i], texts[size + j])
        ]
        candidates.append([i, *others])
    expected = plain_info_nce(vectors[:size], vectors[size:], candidates, 0.1)
    assert_equal_losses(objective.loss(encoder, batch).total, expected, encoder)


def test_examples_come_in_the_shares_asked_for_and_none_is_left_out(make):
    objective = make(ict_share=0.5, bfs_share=0.3, wlp_share=0.2)
    source, first, _ = objective.examples.T
    kinds = np.where(source == first, 0, np.where(source // 3 == first // 3, 1, 2))
    counts = np.bincount(kinds)
    assert counts / counts.sum() == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    assert set(source[kinds == 0]) == set(range(24))
    assert set(source[kinds == 1]) == set(range(0, 24, 3))
    assert set(source[kinds == 2]) == set(range(3, 24, 3))
    assert len(make(bfs_share=1e-6).examples) <= REPEATS * 32 + 1


def test_lengths_foretell_what_batches_cost(make):
    objective = make(**ALONE["all"])
    spent = sum(objective.collate(range(len(objective.examples)), np.random.default_rng(s)).tokens for s in range(5))
    assert objective.lengths().sum() == pytest.approx(spent / 5, rel=0.1)


@pytest.mark.parametrize(("share", "what"), [("bfs_share", "several passages"), ("wlp_share", "links")])
def test_a_share_that_the_corpus_cannot_give_is_one_clear_sentence(make, linked_data, share, what):
    alone = replace(linked_data, documents=np.arange(24), links=None)
    with pytest.raises(CorpusError, match=rf"{share} = 0.5, and the corpus has no .*{what}"):
        make(data=alone, **{share: 0.5})
    assert len(make(data=alone).examples) == 24


def test_links_to_documents_that_may_not_be_trained_on_are_left_out(make, linked_data):
    objective = make(data=replace(linked_data, rows=np.arange(6, 24)), **ALONE["wlp"])
    assert set(objective.rows[objective.examples[:, 0]]) == set(range(9, 24, 3))


def test_passages_of_one_token_are_no_examples(make, linked_data):
    offsets = np.array([0, 1, 2, 4])
    passages = type(linked_data.passages)(linked_data.passages.tokens[:4], offsets)
    objective = make(data=TrainingData(passages, np.arange(3), np.arange(3)))
    assert objective.rows.tolist() == [2]
    objective.collate([0], np.random.default_rng(0))
    with pytest.raises(CorpusError, match="passages of at least two tokens"):
        make(data=TrainingData(passages, np.arange(2), np.arange(3)))


def test_links_are_asked_for_only_where_they_are_used():
    assert ICTConfig().needs() == ICTConfig(bfs_share=1).needs() == frozenset()
    assert ICTConfig(wlp_share=0.1).needs() == {"links"}


@pytest.mark.parametrize(
    "wrong", [{"ict_share": 0}, {"ict_share": -1}, {"keep_rate": 1.1}, {"shortest_query": 9, "longest_query": 8}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        ICTConfig(**wrong)


def test_training_lowers_the_loss(tiny_checkpoint, make, tmp_path):
    checkpoint = tiny_checkpoint(max_tokens=64)
    objective = make(checkpoint)
    batch = objective.collate(range(24), np.random.default_rng(0))
    before = float(objective.loss(checkpoint.encoder, batch).total.detach())
    config = TrainingConfig(batch_tokens=600, learning_rate=3e-3, evaluations=0, max_epochs=10**6, precision="float32")
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=15_000), tmp_path, seed=0)
    assert float(objective.loss(checkpoint.encoder, batch).total.detach()) < 0.7 * before
    assert check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]
