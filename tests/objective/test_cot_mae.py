from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.cot_mae import check
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.objective import dense

from corpusmith.corpus.shards import TokenShards
from corpusmith.objective.config import CoTMAEConfig
from corpusmith.objective.cot_mae import CoTMAE, _neighbours
from corpusmith.objective.data import TrainingData
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(data=tiny_data, checkpoint=None, **options) -> CoTMAE:
        return CoTMAE(CoTMAEConfig(**options), data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def test_loss_and_gradients_are_those_of_the_formulas(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate([3, 11], np.random.default_rng(0))
    inputs = batch.inputs
    read = [
        dense.passages(part.packed, dense.by_token(part.packed, part.places, part.targets))
        for part in (inputs.encoder, inputs.decoder)
    ]
    of_encoder, of_decoder = torch.zeros(()), torch.zeros(())
    spans = list(zip(*read, strict=True))
    vectors = []
    for (ids, targets), _ in spans:
        hidden, asked = dense.encoded(encoder, ids), targets >= 0
        vectors.append(hidden.mean(0))
        of_encoder += dense.negative_log_likelihoods(objective.head, encoder, hidden[asked], targets[asked]).sum()
    for (_, (ids, targets)), neighbour in zip(spans, (1, 0, 3, 2), strict=True):
        restored, asked = dense.decoded(objective.decoder, encoder, vectors[neighbour], ids), targets >= 0
        of_decoder += dense.negative_log_likelihoods(objective.head, encoder, restored[asked], targets[asked]).sum()
    count = inputs.tokens
    dense.assert_same(objective, encoder, batch, of_encoder / (0.3 * count) + of_decoder / (0.45 * count))
    assert objective.loss(encoder, batch).weight == count


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_pairs_are_neighbours_of_a_document_and_those_alone_are_cut(passages):
    """Each passage: its tokens, whether it begins a document, whether it may be trained on."""
    lengths = np.array([length for length, _, _ in passages])
    documents = np.cumsum([begins for _, begins, _ in passages])
    rows = np.flatnonzero([trained for _, _, trained in passages])
    shards = TokenShards(np.zeros(lengths.sum(), dtype=np.uint16), np.concatenate([[0], np.cumsum(lengths)]))
    usable = {int(row) for row in rows if lengths[row]}
    expected = set()
    for row in usable:
        near = [r for r in (row - 1, row + 1) if r in usable and documents[r] == documents[row]]
        expected |= {(min(row, r), max(row, r)) for r in near}
        if not near and lengths[row] > 1:
            expected.add((row, row))
    found = _neighbours(TrainingData(shards, rows[::-1], documents))
    assert found.shape == (len(expected), 2)
    assert {(int(a), int(b)) for a, b in found} == expected


def test_neighbours_lie_side_by_side(make, tiny_data):
    objective = make()
    inputs = objective.collate([0, 5], np.random.default_rng(0)).inputs
    for part in (inputs.encoder, inputs.decoder):
        ids = part.packed.ids.clone()
        ids[part.places] = part.targets
        texts = [ids[a + 1 : b - 1].tolist() for a, b in pairwise(part.packed.cu_seqlens.tolist())]
        assert texts == [tiny_data.passages[row].tolist() for row in (0, 1, 10, 11)]


def test_a_passage_alone_is_cut_in_two_somewhere_in_its_middle(make, tiny_data):
    objective = make(data=replace(tiny_data, documents=np.arange(24)))
    passage, cuts = tiny_data.passages[0], set()
    for seed in range(40):
        inputs = objective.collate([0], np.random.default_rng(seed)).inputs.encoder
        ids = inputs.packed.ids.clone()
        ids[inputs.places] = inputs.targets
        first, second = (len(part) - 2 for (part,) in dense.passages(inputs.packed))
        assert [*ids[1 : first + 1], *ids[first + 3 : -1]] == passage.tolist()
        assert second == len(passage) - first
        cuts.add(first)
    assert len(passage) * 0.2 < min(cuts) < max(cuts) < len(passage) * 0.8
    assert len(cuts) > 3


def test_the_shortest_passage_is_cut_into_two_tokens(make, tiny_data):
    words = tiny_data.passages[0]
    shards = TokenShards(words[:2], np.array([0, 2]))
    objective = make(data=TrainingData(shards, np.arange(1), np.zeros(1, dtype=np.int64)))
    for draw in (0.0, 0.5, 1 - 2**-53):
        assert [len(span) for span in objective._spans(0, 0, draw)] == [1, 1]


def test_a_span_is_restored_from_its_neighbours_vector_and_not_from_its_own(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    inputs = objective.collate([0, 5], np.random.default_rng(0)).inputs
    vectors = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    places, targets = inputs.decoder.places, inputs.decoder.targets
    second = (places >= int(inputs.decoder.packed.cu_seqlens[1])) & (places < int(inputs.decoder.packed.cu_seqlens[2]))
    one = replace(inputs, decoder=replace(inputs.decoder, places=places[second], targets=targets[second]))
    gradient = torch.autograd.grad(objective.decoder_loss(encoder, vectors, one), vectors)[0]
    assert gradient.abs().sum(1).nonzero()[:, 0].tolist() == [0]


def test_the_decoder_sees_less_than_the_encoder(make):
    inputs = make(whole_words=False).collate(range(12), np.random.default_rng(0)).inputs
    assert len(inputs.encoder.places) / inputs.tokens == pytest.approx(0.3, abs=0.02)
    assert len(inputs.decoder.places) / inputs.tokens == pytest.approx(0.45, abs=0.02)


def test_cost_counts_encoder_decoder_and_both_uses_of_the_head(make, tiny_checkpoint):
    objective, encoder = make(decoder_layers=1), tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    width, inner, vocabulary = 32, 64, encoder.config.vocabulary_size
    tokens, squares = batch.lengths.sum(), (batch.lengths**2).sum()
    decoder = 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * width * squares
    named = len(batch.inputs.decoder.targets) + len(batch.inputs.encoder.targets)
    expected = encoder.flops(batch.lengths.tolist()) + decoder + 2 * named * width * (width + vocabulary)
    assert objective.flops(encoder, batch) == pytest.approx(3 * expected)


@pytest.mark.parametrize("wrong", [{"masking_rate": 0.5}, {"decoder_masking_rate": 1.0}, {"decoder_layers": 7}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        CoTMAEConfig(**wrong)


def test_after_training_a_span_is_restored_from_its_neighbours_vector(tiny_checkpoint, tiny_data, tmp_path):
    checkpoint = tiny_checkpoint()
    data = dense.documents_of_one_word(tiny_data, checkpoint.tokenizer)
    options = CoTMAEConfig(masking_rate=0.15, decoder_masking_rate=0.99)
    objective = CoTMAE(options, data, checkpoint, seed=0)
    assert not check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]
    config = TrainingConfig(
        learning_rate=1e-2, fresh_learning_rate=1e-2, batch_tokens=300, max_epochs=10**6, precision="float32"
    )
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=14_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert after["holds"]
    assert after["decoder_loss"] < 0.6 * after["decoder_loss_shuffled"]
