from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.tsdae import check
from pydantic import ValidationError
from tests.objective import dense

from corpusmith.objective.config import TSDAEConfig
from corpusmith.objective.tsdae import TSDAE
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(data=tiny_data, checkpoint=None, **options) -> TSDAE:
        return TSDAE(TSDAEConfig(**options), data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def test_loss_and_gradients_are_those_of_the_formulas(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate([3, 11, 7], np.random.default_rng(0))
    total, count = torch.zeros(()), 0
    both = zip(dense.passages(batch.inputs.left), dense.passages(batch.inputs.original), strict=True)
    for (left,), (original,) in both:
        vector = dense.encoded(encoder, left).mean(0)
        hidden = dense.embedded(encoder, original)
        so_far = torch.ones(len(original), len(original)).tril().bool()
        decoder = objective.decoder
        for layer, mapped, norm in zip(encoder.layers, decoder.maps, decoder.norms, strict=True):
            attended = dense.attended(layer, hidden, so_far)
            hidden = dense.fed(layer, dense.norm(norm, attended + mapped.weight @ vector + mapped.bias))
        nexts = [i for i in range(1, len(original)) if objective.is_ordinary[original[i]]]
        told, wanted = hidden[[i - 1 for i in nexts]], original[nexts]
        total = total + dense.negative_log_likelihoods(objective.head, encoder, told, wanted).sum()
        count += len(nexts)
    dense.assert_same(objective, encoder, batch, total / count)
    assert objective.loss(encoder, batch).weight == count


def test_what_is_left_is_the_passage_in_its_order_without_the_share_deleted(make):
    objective = make(deletion_rate=0.6)
    inputs = objective.collate(range(24), np.random.default_rng(0)).inputs
    for (left,), (original,) in zip(dense.passages(inputs.left), dense.passages(inputs.original), strict=True):
        assert len(original) - len(left) == round(0.6 * (len(original) - 2))
        assert (left[0], left[-1]) == (original[0], original[-1])
        rest = iter(original.tolist())
        assert all(token in rest for token in left.tolist())


def test_all_tokens_are_deleted_equally_often(make):
    objective = make(deletion_rate=0.6)
    left = np.mean(
        [objective._delete(np.array([12, 22]), np.random.default_rng(s).random(34))[0] for s in range(2000)], 0
    )
    special = [0, 11, 12, 33]
    assert (left[special] == 1).all()
    np.testing.assert_allclose(np.delete(left, special), 0.4, atol=0.05)


def test_the_decoder_knows_the_vector_and_the_tokens_before_and_nothing_else(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    inputs = objective.collate([0, 1], np.random.default_rng(0)).inputs
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    hidden = encoder.embeddings(inputs.original.ids, inputs.original.positions).detach().requires_grad_()
    encoder.embeddings.forward = lambda ids, positions: hidden
    states = objective.decoder(encoder, vectors, inputs.original)
    by_tokens, by_vectors = torch.autograd.grad(states[6].square().sum() + states[6, 0], [hidden, vectors])
    assert torch.equal(by_tokens.abs().sum(1).nonzero()[:, 0], torch.arange(7))
    assert by_vectors[0].any()
    assert not by_vectors[1].any()


def test_one_token_is_always_left(make):
    assert make(deletion_rate=0.99)._left(np.array([3, 4, 5, 100])).tolist() == [3, 3, 3, 3]
    assert make(deletion_rate=0.0)._left(np.array([3, 4, 100])).tolist() == [3, 4, 100]


def test_cost_counts_both_passes_the_maps_and_the_head(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    width, vocabulary = 32, encoder.config.vocabulary_size
    both = [*batch.inputs.left.lengths.tolist(), *batch.inputs.original.lengths.tolist()]
    maps = 2 * 2 * 3 * width**2
    head = 2 * len(batch.inputs.targets) * width * (width + vocabulary)
    assert objective.flops(encoder, batch) == pytest.approx(3 * (encoder.flops(both) + maps + head))


@pytest.mark.parametrize("wrong", [{"deletion_rate": 1.0}, {"deletion_rate": -0.1}, {"masking_rate": 0.3}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        TSDAEConfig(**wrong)


def test_after_training_a_passage_is_told_from_its_own_vector(tiny_checkpoint, tiny_data, tmp_path):
    checkpoint = tiny_checkpoint()
    objective = TSDAE(TSDAEConfig(deletion_rate=0.3), replace(tiny_data, rows=np.arange(6)), checkpoint, seed=0)
    assert not check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]
    config = TrainingConfig(
        learning_rate=1e-2, fresh_learning_rate=1e-2, batch_tokens=300, max_epochs=10**6, precision="float32"
    )
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=10_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert after["holds"]
    assert after["decoder_loss"] < 0.9 * after["decoder_loss_shuffled"]
