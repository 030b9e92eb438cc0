from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.seed_encoder import check
from pydantic import ValidationError
from tests.objective import dense

from corpusmith.objective.config import SeedEncoderConfig
from corpusmith.objective.seed_encoder import SeedEncoder
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(checkpoint=None, **options) -> SeedEncoder:
        return SeedEncoder(SeedEncoderConfig(**options), tiny_data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def test_loss_and_gradients_are_those_of_the_formulas(make, tiny_checkpoint):
    objective, encoder = make(masking_rate=0.3, decoder_layers=2, decoder_span=3), tiny_checkpoint().encoder
    batch = objective.collate([3, 11, 7], np.random.default_rng(0))
    masked, originals = batch.inputs.encoder, batch.inputs.original
    hidden_targets = dense.by_token(masked.packed, masked.places, masked.targets)
    of_encoder, of_decoder, count = torch.zeros(()), torch.zeros(()), 0
    for ids, targets, original in dense.passages(masked.packed, hidden_targets, originals.ids):
        hidden = dense.encoded(encoder, ids)
        asked = targets >= 0
        of_encoder += dense.negative_log_likelihoods(objective.head, encoder, hidden[asked], targets[asked]).sum()
        seen = torch.tensor([[j == 0 or i - 3 < j <= i for j in range(len(ids))] for i in range(len(ids))])
        states = dense.decoded(objective.decoder, encoder, hidden.mean(0), original, seen)
        nexts = [i for i in range(1, len(ids)) if objective.masking.is_ordinary[original[i]]]
        wanted = original[nexts]
        told = states[[i - 1 for i in nexts]]
        of_decoder += dense.negative_log_likelihoods(objective.head, encoder, told, wanted).sum()
        count += len(nexts)
    dense.assert_same(objective, encoder, batch, of_encoder / (0.3 * count) + of_decoder / count)
    assert objective.loss(encoder, batch).weight == count


@pytest.mark.parametrize(("layers", "span", "reach"), [(1, 1, 1), (1, 3, 3), (3, 2, 4)])
def test_a_token_is_told_from_the_vector_and_the_last_few_tokens_alone(make, tiny_checkpoint, layers, span, reach):
    objective, encoder = make(decoder_layers=layers, decoder_span=span), tiny_checkpoint().encoder
    inputs = objective.collate([0, 1], np.random.default_rng(0)).inputs
    vectors = torch.zeros(2, 32, requires_grad=True)
    asked = 8
    one = replace(inputs, places=inputs.places[asked : asked + 1], targets=inputs.targets[asked : asked + 1])
    seen = []
    real = objective.decoder.forward

    def forward(vectors, embedded, *rest):
        seen.append(embedded.detach().requires_grad_())
        return real(vectors, seen[0], *rest)

    objective.decoder.forward = forward
    loss = objective.decoder_loss(encoder, vectors, one)
    by_vector, by_tokens = torch.autograd.grad(loss, [vectors, seen[0]])
    place = int(one.places[0])
    assert torch.equal(by_tokens.abs().sum(1).nonzero()[:, 0], torch.arange(place - reach + 1, place + 1))
    assert by_vector[0].any()
    assert not by_vector[1].any()
    assert int(one.targets[0]) == int(inputs.original.ids[place + 1])


def test_every_ordinary_token_is_told_and_no_special_one(make):
    objective = make()
    inputs = objective.collate(range(24), np.random.default_rng(0)).inputs
    ids = inputs.original.ids
    assert torch.equal(ids[inputs.places + 1], inputs.targets)
    assert len(inputs.targets) == int(objective.masking.is_ordinary[ids.numpy()].sum())
    assert objective.masking.is_ordinary[inputs.targets.numpy()].all()


def test_cost_counts_encoder_decoder_and_both_uses_of_the_head(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    width, inner, vocabulary = 32, 64, encoder.config.vocabulary_size
    tokens, squares = batch.lengths.sum(), (batch.lengths**2).sum()
    decoder = 3 * (2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * width * squares)
    named = len(batch.inputs.targets) + len(batch.inputs.encoder.targets)
    expected = encoder.flops(batch.lengths.tolist()) + decoder + 2 * named * width * (width + vocabulary)
    assert objective.flops(encoder, batch) == pytest.approx(3 * expected)


@pytest.mark.parametrize("wrong", [{"decoder_layers": 0}, {"decoder_span": 0}, {"masking_rate": 1.0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        SeedEncoderConfig(**wrong)


def test_after_training_a_passage_is_told_from_its_own_vector(tiny_checkpoint, tiny_data, tmp_path):
    checkpoint = tiny_checkpoint()
    data = replace(tiny_data, rows=np.arange(6))
    objective = SeedEncoder(SeedEncoderConfig(decoder_span=1, decoder_layers=1), data, checkpoint, seed=0)
    assert not check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]
    config = TrainingConfig(
        learning_rate=1e-2, fresh_learning_rate=1e-2, batch_tokens=300, max_epochs=10**6, precision="float32"
    )
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=12_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert after["holds"]
    assert after["decoder_loss"] < 0.9 * after["decoder_loss_shuffled"]
