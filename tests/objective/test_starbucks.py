from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from corpusmith.errors import CorpusError, ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.objective.config import (
    ContrastiveConfig,
    MaskedLanguageConfig,
    RetroMAEConfig,
    StarbucksConfig,
)
from corpusmith.objective.registry import build_objective
from corpusmith.objective.starbucks import Starbucks, spread
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train

SIZES = ((1, 6), (1, 12), (3, 32))


@pytest.fixture
def build(tiny_checkpoint, tiny_data):
    def make(config: StarbucksConfig, data=tiny_data, layers=3, **choices) -> tuple[Starbucks, object]:
        plain = tiny_checkpoint().encoder.config
        encoder = Encoder(replace(plain, layers=layers), torch.Generator().manual_seed(7))
        checkpoint = tiny_checkpoint(encoder=encoder, **choices)
        return build_objective(config, data, checkpoint, seed=0), checkpoint

    return make


def texts_of(packed) -> list[np.ndarray]:
    return [packed.ids[a:b].numpy() for a, b in pairwise(packed.cu_seqlens.tolist())]


def plain_states(encoder: Encoder, text: np.ndarray, layers: int) -> torch.Tensor:
    """BERT's layers one after the other, written out."""
    ids, embeddings = torch.from_numpy(text), encoder.embeddings
    hidden = embeddings.tokens.weight[ids] + embeddings.positions.weight[: len(ids)] + embeddings.types.weight[0]
    hidden = embeddings.norm(hidden)
    for layer in encoder.layers[:layers]:
        q, k, v = F.linear(hidden, layer.attention.qkv.weight, layer.attention.qkv.bias).chunk(3, dim=-1)
        q, k, v = (x.view(len(ids), 2, 16).transpose(0, 1) for x in (q, k, v))
        attended = ((q @ k.transpose(1, 2) / 4).softmax(-1) @ v).transpose(0, 1).reshape(len(ids), 32)
        hidden = layer.attention_norm(hidden + layer.attention.output(attended))
        hidden = layer.mlp_norm(hidden + layer.mlp(hidden))
    return hidden


def test_loss_and_gradients_are_those_of_plain_models_of_each_size_and_their_alignments(build):
    objective, checkpoint = build(StarbucksConfig(sizes=SIZES, alignment=0.6, alignment_temperature=0.1))
    encoder = checkpoint.encoder
    batch = objective.collate(range(5), np.random.default_rng(0))
    loss = objective.loss(encoder, batch)
    loss.total.backward()
    found = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}
    encoder.zero_grad()
    excluded = batch.inputs.excluded
    queries = len(excluded)
    texts = texts_of(batch.inputs.pieces[0])
    losses, rankings = [], []
    for layers, dimension in SIZES:
        pooled = [plain_states(encoder, text, layers).mean(dim=0)[:dimension] for text in texts]
        vectors = torch.stack([vector / vector.norm() for vector in pooled])
        scores = vectors[:queries] @ vectors[queries:].T
        each = [-s[i] / 0.05 + (s[~excluded[i]] / 0.05).logsumexp(0) for i, s in enumerate(scores)]
        losses.append(torch.stack(each).mean())
        rankings.append(scores / 0.1)
    wanted = rankings[-1].detach().softmax(dim=1)
    aligned = sum((wanted * (wanted.log() - r.log_softmax(dim=1))).sum(dim=1).mean() for r in rankings[:-1])
    expected = sum(losses) + 0.6 * aligned
    expected.backward()
    assert float(loss.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert loss.parts["alignment"] == pytest.approx(float(aligned.detach()), rel=1e-3)
    for (layers, dimension), plain in zip(SIZES, losses, strict=True):
        name = f"layers_{layers}_dimension_{dimension}"
        assert loss.parts[name] == pytest.approx(float(plain.detach()), rel=1e-5)
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_pretraining_names_hidden_words_and_rebuilds_passages_from_every_size(build):
    objective, checkpoint = build(StarbucksConfig(objective=RetroMAEConfig(), sizes=SIZES))
    encoder, inner = checkpoint.encoder, objective.inner
    batch = objective.collate(range(4), np.random.default_rng(0))
    loss = objective.loss(encoder, batch)
    inputs = batch.inputs
    expected = []
    for layers, dimension in SIZES:
        cut = torch.zeros(1, 32).index_fill(1, torch.arange(dimension), 1.0)
        states = [plain_states(encoder, text, layers) * cut for text in texts_of(inputs.encoder.packed)]
        logits = inner.head(torch.cat(states)[inputs.encoder.places], encoder.embeddings.tokens.weight)
        words = F.cross_entropy(logits, inputs.encoder.targets)
        share = len(inputs.encoder.targets) / (0.3 * len(inputs.targets))
        vectors = torch.stack([state.mean(dim=0) for state in states])
        expected.append(words * share + inner.decoder_loss(encoder, vectors, inputs))
    assert float(loss.total.detach()) == pytest.approx(float(sum(expected).detach()), rel=1e-5)
    assert "alignment" not in loss.parts
    assert loss.weight == len(inputs.targets)


def test_where_no_queries_are_told_apart_each_text_ranks_the_others(build):
    config = StarbucksConfig(objective=MaskedLanguageConfig(), sizes=SIZES, alignment=1.0, alignment_temperature=0.1)
    objective, checkpoint = build(config)
    batch = objective.collate(range(4), np.random.default_rng(0))
    loss = objective.loss(checkpoint.encoder, batch)
    rankings = []
    for layers, dimension in SIZES:
        pooled = [
            plain_states(checkpoint.encoder, text, layers).mean(dim=0)[:dimension]
            for text in texts_of(batch.inputs.packed)
        ]
        vectors = torch.stack([vector / vector.norm() for vector in pooled])
        rankings.append([torch.cat([s[:i], s[i + 1 :]]) / 0.1 for i, s in enumerate(vectors @ vectors.T)])
    aligned = 0.0
    for ranking in rankings[:-1]:
        for scores, whole in zip(ranking, rankings[-1], strict=True):
            wanted = whole.softmax(dim=0)
            aligned += float((wanted * (wanted.log() - scores.log_softmax(dim=0))).sum().detach()) / 4
    assert loss.parts["alignment"] == pytest.approx(aligned, rel=1e-3)


def test_alignment_is_left_out_of_pretraining_unless_asked_for():
    assert StarbucksConfig().alignment_weight == 1
    assert StarbucksConfig(objective=RetroMAEConfig()).alignment_weight == 0
    assert StarbucksConfig(objective=RetroMAEConfig(), alignment=0.5).alignment_weight == 0.5


def test_batches_are_cut_where_the_inner_objective_allows_and_no_ranking_needs_all_texts(build):
    pretraining = StarbucksConfig(objective=RetroMAEConfig(), sizes=SIZES)
    objective, checkpoint = build(pretraining)
    assert objective.divisible
    rng = np.random.default_rng(4)
    parts = [objective.loss(checkpoint.encoder, objective.collate(part, rng)) for part in ([3, 1], [15, 8, 20])]
    whole = objective.loss(checkpoint.encoder, objective.collate([3, 1, 15, 8, 20], np.random.default_rng(4)))
    joined = sum(float(part.total.detach()) * part.weight for part in parts) / whole.weight
    assert joined == pytest.approx(float(whole.total.detach()), rel=1e-5)
    assert not build(pretraining.model_copy(update={"alignment": 1.0}))[0].divisible
    assert not build(StarbucksConfig())[0].divisible


def test_the_papers_sizes_are_the_default_for_bert_base():
    assert spread(12, 768) == [(2, 32), (4, 64), (6, 128), (8, 256), (10, 512), (12, 768)]
    assert spread(6, 384) == [(1, 16), (2, 32), (3, 64), (4, 128), (5, 256), (6, 384)]
    assert spread(2, 32) == [(1, 16), (2, 32)]
    assert spread(1, 32) == [(1, 32)]


def test_the_encoder_runs_once_and_each_size_is_counted(build):
    objective, checkpoint = build(StarbucksConfig(objective=RetroMAEConfig(), sizes=SIZES))
    runs = []
    checkpoint.encoder.layers[0].register_forward_hook(lambda *_: runs.append(1))
    batch = objective.collate(range(4), np.random.default_rng(0))
    objective.loss(checkpoint.encoder, batch)
    assert len(runs) == 1
    run = 3 * checkpoint.encoder.flops(batch.lengths.tolist())
    beside = objective.inner.flops(checkpoint.encoder, batch) - run
    assert objective.flops(checkpoint.encoder, batch) == pytest.approx(run + 3 * beside)


def test_after_training_small_sizes_tell_pairs_apart(build, tmp_path):
    from benchmarks.claims.mechanics.starbucks import check

    objective, checkpoint = build(StarbucksConfig(sizes=((1, 4), (2, 8), (3, 32))))
    records = []
    settings = TrainingConfig(learning_rate=3e-3, batch_tokens=1000, evaluations=0, max_epochs=100)
    train(checkpoint.encoder, objective, settings, BudgetConfig(tokens=15_000), tmp_path, 0, report=records.append)
    for layers, dimension in objective.sizes:
        losses = [record.parts[f"layers_{layers}_dimension_{dimension}"] for record in records]
        assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    found = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert found["holds"]
    assert found["layers_3_dimension_32"] == pytest.approx(1)


@pytest.mark.parametrize("inner", [ContrastiveConfig(), RetroMAEConfig(), MaskedLanguageConfig()])
def test_one_example_and_short_passages_are_taken(build, inner):
    objective, checkpoint = build(StarbucksConfig(objective=inner, alignment=1.0), max_tokens=3)
    for examples in ([0], [0, 1, 2]):
        batch = objective.collate(examples, np.random.default_rng(0))
        assert batch.lengths.max() == 3
        assert torch.isfinite(objective.loss(checkpoint.encoder, batch).total)


@pytest.mark.parametrize("inner", [ContrastiveConfig(), RetroMAEConfig()], ids=lambda config: config.kind)
def test_bf16_gives_nearly_the_same_loss(build, inner):
    objective, checkpoint = build(StarbucksConfig(objective=inner, sizes=SIZES, alignment=1.0))
    batch = objective.collate(range(12), np.random.default_rng(0))
    exact = float(objective.loss(checkpoint.encoder, batch).total.detach())
    checkpoint.encoder.compute_dtype = torch.bfloat16
    rounded = objective.loss(checkpoint.encoder, batch).total
    rounded.backward()
    assert float(rounded.detach()) == pytest.approx(exact, rel=0.02)


def test_a_model_of_one_layer_is_its_only_size(build):
    objective, checkpoint = build(StarbucksConfig(), layers=1)
    loss = objective.loss(checkpoint.encoder, objective.collate(range(4), np.random.default_rng(0)))
    assert float(loss.total.detach()) == pytest.approx(loss.parts["info_nce"])


def test_sizes_that_the_model_has_not_or_that_do_not_end_with_it_are_refused(build, tiny_data):
    with pytest.raises(ModelError, match="4 layers and 32 dimensions; the model has 3 layers"):
        build(StarbucksConfig(sizes=((1, 8), (4, 32))))
    with pytest.raises(ModelError, match=r"the whole model, \[3, 32\]; given is \[2, 32\]"):
        build(StarbucksConfig(sizes=((1, 8), (2, 32))))
    with pytest.raises(CorpusError, match="pairs"):
        build(StarbucksConfig(), replace(tiny_data, pairs=None))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": ((3, 32),)},
        {"sizes": ((0, 8), (3, 32))},
        {"sizes": ((2, 8), (1, 32))},
        {"sizes": ((1, 16), (2, 8))},
        {"sizes": ((1, 8), (1, 8))},
        {"alignment": -0.1},
        {"alignment_temperature": 0},
        {"objective": {"kind": "starbucks"}},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        StarbucksConfig.model_validate(wrong)
