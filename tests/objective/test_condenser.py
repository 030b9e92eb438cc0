from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.condenser import check
from pydantic import ValidationError
from torch.nn import functional as F

from corpusmith.errors import ModelError
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.objective import condenser as module
from corpusmith.objective.condenser import Condenser
from corpusmith.objective.config import CondenserConfig
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def objective(tiny_checkpoint, tiny_data) -> Condenser:
    return Condenser(CondenserConfig(), tiny_data, tiny_checkpoint(), seed=0)


def plain_layer(layer, x: torch.Tensor) -> torch.Tensor:
    """One layer of BERT's kind on one sequence, `[L, D]`."""
    heads, (length, size) = layer.attention.heads, x.shape
    q, k, v = F.linear(x, layer.attention.qkv.weight, layer.attention.qkv.bias).chunk(3, dim=1)
    q, k, v = (part.view(length, heads, -1).transpose(0, 1) for part in (q, k, v))
    weights = (q @ k.transpose(1, 2) / (size / heads) ** 0.5).softmax(dim=-1)
    mixed = (weights @ v).transpose(0, 1).reshape(length, size)
    x = layer.attention_norm(x + F.linear(mixed, layer.attention.output.weight, layer.attention.output.bias))
    inner = F.gelu(F.linear(x, layer.mlp.up.weight, layer.mlp.up.bias))
    return layer.mlp_norm(x + F.linear(inner, layer.mlp.down.weight, layer.mlp.down.bias))


def plain_loss(objective, encoder, batch) -> torch.Tensor:
    """The formula of the module, one passage at a time."""
    (inputs,) = batch.inputs
    wanted = dict(zip(inputs.places.tolist(), inputs.targets.tolist(), strict=True))
    bounds, total = inputs.packed.cu_seqlens.tolist(), torch.zeros(())
    for start, stop in pairwise(bounds):
        one = pack([inputs.packed.ids[start:stop].numpy()])
        early = encoder.embeddings(one.ids, one.positions)
        for layer in encoder.layers[: objective.early_layers]:
            early = plain_layer(layer, early)
        late = early
        for layer in encoder.layers[objective.early_layers :]:
            late = plain_layer(layer, late)
        states = objective.decoder.norm(torch.cat([pool(late, one, objective.pooling), early[1:]]))
        for layer in objective.decoder.layers:
            states = plain_layer(layer, states)
        for named in (late, states):
            logits = objective.head(named, encoder.embeddings.tokens.weight).log_softmax(dim=1)
            for place in range(start, stop):
                if place in wanted:
                    total = total - logits[place - start, wanted[place]]
    return total / len(wanted)


@pytest.mark.parametrize(("pooling", "early"), [("mean", None), ("cls", None), ("mean", 0)])
def test_loss_and_gradients_are_those_of_the_formula(tiny_checkpoint, tiny_data, pooling, early):
    checkpoint = tiny_checkpoint(pooling=pooling)
    encoder = checkpoint.encoder
    objective = Condenser(CondenserConfig(early_layers=early), tiny_data, checkpoint, seed=0)
    batch = objective.collate([3, 9, 17, 20], np.random.default_rng(4))
    loss, expected = objective.loss(encoder, batch), plain_loss(objective, encoder, batch)
    torch.testing.assert_close(loss.total, expected)
    assert loss.weight == len(batch.inputs[0].targets)
    parameters = [*encoder.parameters(), *objective.parameters()]
    found = torch.autograd.grad(loss.total, parameters, allow_unused=True)
    for one, other in zip(found, torch.autograd.grad(expected, parameters, allow_unused=True), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_half_of_the_layers_are_early_ones_and_one_must_be_late(tiny_checkpoint, tiny_data):
    assert Condenser(CondenserConfig(), tiny_data, tiny_checkpoint(), seed=0).early_layers == 1
    with pytest.raises(ModelError, match="set it to 1 or less"):
        Condenser(CondenserConfig(early_layers=2), tiny_data, tiny_checkpoint(), seed=0)


def test_late_layers_reach_the_head_through_the_vector_alone(objective, tiny_checkpoint, monkeypatch):
    encoder = tiny_checkpoint().encoder
    (inputs,) = objective.collate([0, 5], np.random.default_rng(0)).inputs
    late_weight, early_weight = (encoder.layers[number].attention.qkv.weight for number in (1, 0))
    _, _, rebuilt = objective.states(encoder, inputs)
    assert torch.autograd.grad(rebuilt.square().sum(), late_weight)[0].abs().sum() > 0
    monkeypatch.setattr(module, "pool", lambda hidden, packed, pooling: torch.zeros(len(packed), hidden.shape[1]))
    _, _, rebuilt = objective.states(encoder, inputs)
    late, early = torch.autograd.grad(rebuilt.square().sum(), [late_weight, early_weight], allow_unused=True)
    assert late is None
    assert early.abs().sum() > 0


def test_cost_counts_encoder_head_and_both_uses_of_the_masked_language_head(objective, tiny_checkpoint):
    encoder = tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    width, inner, vocabulary = 32, 64, encoder.config.vocabulary_size
    tokens, squares = batch.lengths.sum(), (batch.lengths**2).sum()
    head = 2 * (2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * width * squares)
    named = 2 * 2 * len(batch.inputs[0].targets) * width * (width + vocabulary)
    expected = encoder.flops(batch.lengths.tolist()) + head + named
    assert objective.flops(encoder, batch) == pytest.approx(3 * expected)


def test_after_training_the_head_needs_the_passages_own_vector(tiny_checkpoint, tiny_data, tmp_path):
    checkpoint = tiny_checkpoint()
    options = CondenserConfig(masking_rate=0.8, mask_share=1.0, random_share=0.0, early_layers=0, head_layers=1)
    objective = Condenser(options, tiny_data, checkpoint, seed=0)
    before = check(objective, checkpoint.encoder, np.random.default_rng(0))
    rates = {"learning_rate": 1e-2, "fresh_learning_rate": 1e-2}
    config = TrainingConfig(batch_tokens=300, max_epochs=10**6, precision="float32", **rates)
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=60_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert not before["holds"]
    assert after["holds"]
    assert after["own_vector_loss"] < 0.3 * before["own_vector_loss"]


@pytest.mark.parametrize("wrong", [{"early_layers": -1}, {"head_layers": 0}, {"masking_rate": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        CondenserConfig(**wrong)
