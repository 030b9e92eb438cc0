from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics import pmi

from corpusmith.model.pooling import pool
from corpusmith.objective.config import RetroMAEConfig
from corpusmith.objective.retromae import RetroMAE
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def objective(tiny_checkpoint, tiny_data) -> RetroMAE:
    return RetroMAE(RetroMAEConfig(), tiny_data, tiny_checkpoint(), seed=0)


def test_every_position_sees_the_vector_and_never_itself(objective):
    visible = objective.collate(range(10), np.random.default_rng(0)).inputs.visible
    assert visible[:, :, 0].all()
    diagonal = torch.diagonal(visible, dim1=1, dim2=2)
    assert not diagonal[:, 1:].any()


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8])
def test_other_positions_are_seen_at_the_rate_asked_for_each_row_its_own(tiny_checkpoint, tiny_data, rate):
    objective = RetroMAE(RetroMAEConfig(visible_rate=rate), tiny_data, tiny_checkpoint(), seed=0)
    batch = objective.collate(range(24), np.random.default_rng(0))
    seen = []
    for square, length in zip(batch.inputs.visible, batch.lengths, strict=True):
        others = ~torch.eye(length, dtype=torch.bool)
        others[:, 0] = False
        seen.append(square[:length, :length][others])
    assert float(torch.cat(seen).float().mean()) == pytest.approx(rate, abs=0.02)
    if rate:
        first, second = batch.inputs.visible[0, 1], batch.inputs.visible[0, 2]
        assert not torch.equal(first, second)


def test_the_decoder_answers_for_every_ordinary_token_and_no_special_one(objective):
    inputs = objective.collate(range(6), np.random.default_rng(0)).inputs
    ids = inputs.original.ids
    assert torch.equal(inputs.targets, ids[inputs.places])
    assert len(inputs.places) == len(ids) - int(np.isin(ids.numpy(), objective.tokenizer.special_ids).sum())


def test_a_position_knows_nothing_of_what_it_may_not_see(objective, tiny_checkpoint):
    encoder = tiny_checkpoint().encoder
    inputs = objective.collate([0, 1], np.random.default_rng(0)).inputs
    length, config = int(inputs.original.lengths[0]), encoder.config
    vectors = torch.randn(2, config.hidden_size, generator=torch.Generator().manual_seed(0))
    embedded = encoder.embeddings.tokens(inputs.original.ids).detach().requires_grad_()
    states = objective.decoder(vectors, embedded, inputs.original, inputs.visible, torch.float32)
    asked = 4
    gradient = torch.autograd.grad(states[asked].sum(), embedded)[0]
    reached = gradient.abs().sum(dim=1) > 0
    expected = inputs.visible[0, asked, :length].clone()
    expected[0] = False  # there stands the vector instead of the embedding
    assert torch.equal(reached[:length], expected)
    assert not reached[length:].any()


def test_the_decoder_computes_enhanced_decoding_as_written_down(objective, tiny_checkpoint):
    """The formulas of the module, one passage at a time, without packing."""
    encoder = tiny_checkpoint().encoder
    inputs = objective.collate([0, 4, 7], np.random.default_rng(2)).inputs
    decoder, layer = objective.decoder, objective.decoder.layer
    vectors = torch.randn(3, encoder.config.hidden_size, generator=torch.Generator().manual_seed(0))
    embedded = encoder.embeddings.tokens(inputs.original.ids)
    found = decoder(vectors, embedded, inputs.original, inputs.visible, torch.float32)
    bounds = inputs.original.cu_seqlens.tolist()
    for number, (start, stop) in enumerate(pairwise(bounds)):
        length, size = stop - start, encoder.config.hidden_size
        p = decoder.positions.weight[:length]
        h1 = decoder.query_norm(vectors[number] + p)
        h2 = decoder.context_norm(torch.cat([vectors[number][None], embedded[start + 1 : stop] + p[1:]]))
        w, b = layer.attention.qkv.weight, layer.attention.qkv.bias
        q, k, v = h1 @ w[:size].T + b[:size], h2 @ w[size : 2 * size].T + b[size : 2 * size], h2 @ w[2 * size :].T
        q, k, v = (x.view(length, encoder.config.heads, -1).transpose(0, 1) for x in (q, k, v + b[2 * size :]))
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~inputs.visible[number, :length, :length], -torch.inf)
        attended = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, size)
        a = layer.attention_norm(h1 + layer.attention.output(attended))
        torch.testing.assert_close(found[start:stop], layer.mlp_norm(a + layer.mlp(a)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_after_training_a_passage_is_rebuilt_from_its_own_vector_and_not_from_anothers(
    tiny_checkpoint, tiny_data, tmp_path, pooling
):
    checkpoint = tiny_checkpoint(pooling=pooling)
    objective = RetroMAE(RetroMAEConfig(visible_rate=0.2), tiny_data, checkpoint, seed=0)
    config = TrainingConfig(
        learning_rate=1e-2, fresh_learning_rate=1e-2, batch_tokens=300, max_epochs=10**6, precision="float32"
    )
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=50_000), tmp_path, seed=0)
    batch = objective.collate(range(24), np.random.default_rng(0))
    with torch.no_grad():
        packed = batch.inputs.original
        vectors = pool(checkpoint.encoder(packed), packed, pooling)
        own = float(objective.decoder_loss(checkpoint.encoder, vectors, batch.inputs))
        others = float(objective.decoder_loss(checkpoint.encoder, vectors.roll(7, dims=0), batch.inputs))
    assert own < 0.6 * others


def test_cost_counts_encoder_decoder_and_both_uses_of_the_head(objective, tiny_checkpoint):
    encoder = tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    width, inner, vocabulary = 32, 64, encoder.config.vocabulary_size
    tokens, squares = batch.lengths.sum(), (batch.lengths**2).sum()
    decoder = 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * width * squares
    named = len(batch.inputs.targets) + len(batch.inputs.encoder.targets)
    expected = encoder.flops(batch.lengths.tolist()) + decoder + 2 * named * width * (width + vocabulary)
    assert objective.flops(encoder, batch) == pytest.approx(3 * expected)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.8])
def test_by_mutual_information_the_rate_stays_and_what_tells_most_is_seen_least(tiny_checkpoint, tiny_data, rate):
    config = RetroMAEConfig(visible="pmi", visible_rate=rate)
    objective = RetroMAE(config, tiny_data, tiny_checkpoint(), seed=0)
    seen = np.zeros(2)
    high, low = [], []
    for seed in range(20):
        batch = objective.collate(range(24), np.random.default_rng(seed))
        ids = batch.inputs.original.ids.numpy()
        value = objective.pairs.informativeness(
            np.where(np.isin(ids, objective.tokenizer.special_ids), -1, ids), batch.lengths
        )
        for square, tells, length in zip(
            batch.inputs.visible.numpy(), np.split(value, np.cumsum(batch.lengths)[:-1]), batch.lengths, strict=True
        ):
            assert square[:, 0].all()
            assert not square[np.arange(1, length), np.arange(1, length)].any()
            others = ~np.eye(length, dtype=bool)[:, 1:]
            columns = (square[:length, 1:length] & others).sum(axis=0) / others.sum(axis=0)
            seen += [columns.sum(), len(columns)]
            order = np.argsort(tells[1:], kind="stable")
            low.append(columns[order[: length // 3]].mean())
            high.append(columns[order[-(length // 3) :]].mean())
    assert seen[0] / seen[1] == pytest.approx(rate, abs=0.01)
    if rate:
        assert np.mean(high) < np.mean(low) - 0.9 * min(rate, 1 - rate)


def test_collating_by_mutual_information_may_be_done_in_parts(tiny_checkpoint, tiny_data):
    objective = RetroMAE(RetroMAEConfig(visible="pmi"), tiny_data, tiny_checkpoint(), seed=0)
    whole = objective.collate([3, 1, 15, 8], np.random.default_rng(9)).inputs.visible
    rng = np.random.default_rng(9)
    parts = [objective.collate(part, rng).inputs.visible for part in ([3, 1], [15, 8])]
    for square, found in zip(whole, [*parts[0], *parts[1]], strict=True):
        size = min(len(square), len(found))
        assert torch.equal(square[:size, :size], found[:size, :size])


def test_the_encoders_loss_is_its_mean_at_any_rate_of_a_curriculum(tiny_checkpoint, tiny_data):
    checkpoint = tiny_checkpoint()
    config = RetroMAEConfig(masking_rate=0.2, final_rate=0.8, whole_words=False)
    objective = RetroMAE(config, tiny_data, checkpoint, seed=0)
    for progress in (0.0, 1.0):
        objective.progress = progress
        batch = objective.collate(range(24), np.random.default_rng(0))
        share = len(batch.inputs.encoder.targets) / len(batch.inputs.targets)
        assert share == pytest.approx(0.2 + 0.6 * progress, abs=0.03)
        loss = objective.loss(checkpoint.encoder, batch)
        assert loss.parts["encoder"] == pytest.approx(np.log(checkpoint.encoder.config.vocabulary_size), rel=0.05)


def test_the_mechanical_check_compares_both_masks_at_the_same_rate(tiny_checkpoint, tiny_data):
    objective, encoder = (
        RetroMAE(RetroMAEConfig(visible="pmi"), tiny_data, tiny_checkpoint(), seed=0),
        tiny_checkpoint().encoder,
    )
    found = pmi.check(objective, encoder, np.random.default_rng(0))
    assert found["pmi_seen"] == pytest.approx(found["random_seen"], abs=0.02)
    assert found["pmi_loss"] != found["random_loss"]
    assert found["holds"] == (found["pmi_loss"] > found["random_loss"])
    assert objective.pairs is not None
