from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.dupmae import check
from pydantic import ValidationError

from corpusmith.model.packed import pack
from corpusmith.objective.config import DupMAEConfig, RetroMAEConfig
from corpusmith.objective.dupmae import DupMAE
from corpusmith.objective.retromae import RetroMAE
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def objective(tiny_checkpoint, tiny_data) -> DupMAE:
    return DupMAE(DupMAEConfig(bag_weight=0.5), tiny_data, tiny_checkpoint(), seed=0)


def plain_bag_loss(objective, encoder, batch) -> torch.Tensor:
    """The third loss of the module, one passage at a time, all logits at once."""
    inputs, is_ordinary = batch.inputs, objective.masking.is_ordinary
    bounds, total = inputs.original.cu_seqlens.tolist(), torch.zeros(())
    for start, stop in pairwise(bounds):
        original = inputs.original.ids[start:stop].tolist()
        hidden = encoder(pack([inputs.encoder.packed.ids[start:stop].numpy()]))
        logits = objective.head(hidden, encoder.embeddings.tokens.weight)
        largest = torch.stack([row for row, token in zip(logits, original, strict=True) if is_ordinary[token]]).amax(0)
        for token in {token for token in original if is_ordinary[token]}:
            total = total - largest.log_softmax(dim=0)[token]
    return total / len(inputs.targets)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_loss_and_gradients_are_retromaes_and_those_of_the_bag(tiny_checkpoint, tiny_data, pooling):
    checkpoint = tiny_checkpoint(pooling=pooling)
    encoder = checkpoint.encoder
    objective = DupMAE(DupMAEConfig(bag_weight=0.5), tiny_data, checkpoint, seed=0)
    retromae = RetroMAE(RetroMAEConfig(), tiny_data, checkpoint, seed=0)
    batch = objective.collate([3, 9, 17, 20], np.random.default_rng(4))
    loss, bag = objective.loss(encoder, batch), plain_bag_loss(objective, encoder, batch)
    expected = retromae.loss(encoder, batch).total + 0.5 * bag
    torch.testing.assert_close(loss.total, expected)
    assert loss.parts["bag"] == pytest.approx(float(bag.detach()), rel=1e-5)
    found = torch.autograd.grad(loss.total, list(encoder.parameters()), allow_unused=True)
    plain = torch.autograd.grad(expected, list(encoder.parameters()), allow_unused=True)
    for one, other in zip(found, plain, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_the_head_learns_from_the_bag_as_well(objective, tiny_checkpoint):
    encoder, batch = tiny_checkpoint().encoder, objective.collate([3, 9], np.random.default_rng(4))
    objective.loss(encoder, batch).total.backward()
    with_bag = objective.head.dense.weight.grad.clone()
    objective.zero_grad()
    super(DupMAE, objective).loss_of(
        encoder, encoder(batch.inputs.encoder.packed), batch.inputs.encoder.packed, batch.inputs
    ).total.backward()
    (bag,) = torch.autograd.grad(plain_bag_loss(objective, encoder, batch), [objective.head.dense.weight])
    torch.testing.assert_close(with_bag, objective.head.dense.weight.grad + 0.5 * bag, atol=1e-5, rtol=1e-3)


def test_cost_counts_the_head_on_all_ordinary_tokens_once_more(objective, tiny_checkpoint, tiny_data):
    checkpoint = tiny_checkpoint()
    batch = objective.collate(range(5), np.random.default_rng(0))
    retromae = RetroMAE(RetroMAEConfig(), tiny_data, checkpoint, seed=0)
    width, vocabulary = 32, checkpoint.encoder.config.vocabulary_size
    head = 3 * 2 * len(batch.inputs.targets) * width * (width + vocabulary)
    assert objective.flops(checkpoint.encoder, batch) == pytest.approx(retromae.flops(checkpoint.encoder, batch) + head)


def test_after_training_the_vector_rebuilds_and_the_tokens_name_their_passage(tiny_checkpoint, tiny_data, tmp_path):
    checkpoint = tiny_checkpoint()
    objective = DupMAE(DupMAEConfig(visible_rate=0.2), tiny_data, checkpoint, seed=0)
    before = check(objective, checkpoint.encoder, np.random.default_rng(0))
    rates = {"learning_rate": 1e-2, "fresh_learning_rate": 1e-2}
    config = TrainingConfig(batch_tokens=300, max_epochs=10**6, precision="float32", **rates)
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=40_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert not before["holds"]
    assert after["holds"]
    assert after["named_by_its_own"] > 0.5


def test_only_the_tiniest_corpus_is_enough(tiny_checkpoint, tiny_data):
    data = replace(tiny_data, rows=np.array([7]))
    checkpoint = tiny_checkpoint()
    objective = DupMAE(DupMAEConfig(), data, checkpoint, seed=0)
    loss = objective.loss(checkpoint.encoder, objective.collate([0], np.random.default_rng(0)))
    assert loss.weight == len(tiny_data.passages[7])


@pytest.mark.parametrize("wrong", [{"bag_weight": 0}, {"visible_rate": 1.0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        DupMAEConfig(**wrong)
