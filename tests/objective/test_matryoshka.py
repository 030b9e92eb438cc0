from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from corpusmith.errors import CorpusError, ModelError
from corpusmith.model.packed import pack
from corpusmith.objective.config import (
    ContrastiveConfig,
    MaskedLanguageConfig,
    MatryoshkaConfig,
    RetroMAEConfig,
)
from corpusmith.objective.matryoshka import Matryoshka
from corpusmith.objective.registry import build_objective, save_parts
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def build(tiny_checkpoint, tiny_data):
    def make(config: MatryoshkaConfig, data=tiny_data, **choices) -> tuple[Matryoshka, object]:
        checkpoint = tiny_checkpoint(**choices)
        return build_objective(config, data, checkpoint, seed=0), checkpoint

    return make


def texts_of(packed) -> list[np.ndarray]:
    return [packed.ids[a:b].numpy() for a, b in pairwise(packed.cu_seqlens.tolist())]


def plain_info_nce(vectors: torch.Tensor, excluded: torch.Tensor) -> torch.Tensor:
    """Over float32 vectors of queries and then candidates, cut but not yet scaled."""
    size, losses = len(excluded), []
    vectors = torch.stack([vector / vector.norm() for vector in vectors])
    for query in range(size):
        scores = vectors[size:] @ vectors[query] / 0.05
        losses.append(-scores[query] + scores[~excluded[query]].logsumexp(dim=0))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_loss_and_gradients_are_the_weighted_sum_over_plainly_cut_vectors(build, pooling):
    config = MatryoshkaConfig(dimensions=(32, 12, 3), weights=(1.0, 0.5, 2.0))
    objective, checkpoint = build(config, pooling=pooling)
    encoder = checkpoint.encoder
    batch = objective.collate(range(6), np.random.default_rng(0))
    loss = objective.loss(encoder, batch)
    loss.total.backward()
    found = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}
    encoder.zero_grad()
    states = [encoder(pack([text])) for text in texts_of(batch.inputs.pieces[0])]
    vectors = torch.stack([h.mean(dim=0) if pooling == "mean" else h[0] for h in states])
    plain = {d: plain_info_nce(vectors[:, :d], batch.inputs.excluded) for d in config.dimensions}
    expected = plain[32] + 0.5 * plain[12] + 2.0 * plain[3]
    expected.backward()
    assert float(loss.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert loss.parts["dimension_12"] == pytest.approx(float(plain[12].detach()), rel=1e-5)
    assert loss.parts["info_nce"] == pytest.approx(float(plain[32].detach()), rel=1e-5)
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_the_whole_width_alone_is_the_inner_objective(build, tiny_checkpoint, tiny_data):
    objective, checkpoint = build(MatryoshkaConfig(objective=RetroMAEConfig(), dimensions=(32,)))
    inner = build_objective(RetroMAEConfig(), tiny_data, tiny_checkpoint(), seed=0)
    batches = [o.collate(range(5), np.random.default_rng(1)) for o in (objective, inner)]
    wrapped, plain = (o.loss(checkpoint.encoder, batch) for o, batch in zip((objective, inner), batches, strict=True))
    assert float(wrapped.total.detach()) == float(plain.total.detach())
    assert wrapped.weight == plain.weight
    assert objective.flops(checkpoint.encoder, batches[0]) == inner.flops(checkpoint.encoder, batches[1])


def test_hidden_words_are_named_from_the_leading_dimensions_alone(build):
    objective, checkpoint = build(MatryoshkaConfig(objective=MaskedLanguageConfig(), dimensions=(8,)))
    encoder, head = checkpoint.encoder, objective.inner.head
    batch = objective.collate(range(4), np.random.default_rng(1))
    inputs = batch.inputs
    states = torch.cat([encoder(pack([text])) for text in texts_of(inputs.packed)])[inputs.places]
    features = F.linear(states[:, :8], head.dense.weight[:, :8], head.dense.bias)
    logits = head.norm(F.gelu(features)) @ encoder.embeddings.tokens.weight.T + head.bias
    expected = F.cross_entropy(logits, inputs.targets)
    assert float(objective.loss(encoder, batch).total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_encoder_runs_once_however_many_widths_there_are(build):
    objective, checkpoint = build(MatryoshkaConfig())
    assert [dimension for _, dimension in objective.sizes] == [32, 16, 8, 4, 2]
    runs = []
    checkpoint.encoder.layers[0].register_forward_hook(lambda *_: runs.append(1))
    batch = objective.collate(range(4), np.random.default_rng(0))
    objective.loss(checkpoint.encoder, batch)
    assert len(runs) == 1
    assert objective.flops(checkpoint.encoder, batch) == 3 * checkpoint.encoder.flops(batch.lengths.tolist())


def test_a_batch_that_would_be_encoded_in_pieces_is_encoded_in_one(build):
    objective, checkpoint = build(MatryoshkaConfig(objective=ContrastiveConfig(recompute_above=20)))
    batch = objective.collate(range(8), np.random.default_rng(0))
    assert len(batch.inputs.pieces) == 1
    whole, _ = build(MatryoshkaConfig())
    expected = whole.loss(checkpoint.encoder, whole.collate(range(8), np.random.default_rng(0)))
    assert torch.equal(objective.loss(checkpoint.encoder, batch).total, expected.total)


def test_each_use_of_head_and_decoder_is_counted(build):
    objective, checkpoint = build(MatryoshkaConfig(objective=RetroMAEConfig(), dimensions=(32, 8, 4)))
    inner = objective.inner
    batch = objective.collate(range(5), np.random.default_rng(0))
    run = 3 * checkpoint.encoder.flops(batch.lengths.tolist())
    beside = inner.flops(checkpoint.encoder, batch) - run
    assert beside > 0
    assert objective.flops(checkpoint.encoder, batch) == pytest.approx(run + 3 * beside)


@pytest.mark.parametrize("inner", [MaskedLanguageConfig(), RetroMAEConfig()], ids=lambda config: config.kind)
def test_a_batch_collated_in_parts_equals_the_whole_where_the_inner_one_does(build, inner):
    objective, checkpoint = build(MatryoshkaConfig(objective=inner))
    assert objective.divisible
    rng = np.random.default_rng(4)
    parts = [objective.loss(checkpoint.encoder, objective.collate(part, rng)) for part in ([3, 1], [15, 8, 20])]
    whole = objective.loss(checkpoint.encoder, objective.collate([3, 1, 15, 8, 20], np.random.default_rng(4)))
    units = sum(part.weight for part in parts)
    joined = sum(float(part.total.detach()) * part.weight for part in parts) / units
    assert joined == pytest.approx(float(whole.total.detach()), rel=1e-5)
    assert units == whole.weight
    assert not build(MatryoshkaConfig())[0].divisible  # pairs of a batch are each other's negatives


def test_what_the_inner_objective_keeps_is_kept_under_its_own_kind(build, tmp_path):
    objective, _ = build(MatryoshkaConfig(objective=RetroMAEConfig()))
    save_parts(objective, "matryoshka", tmp_path)
    assert {path.stem for path in (tmp_path / "objectives").iterdir()} == {"retromae", "head"}
    assert {id(p) for p in objective.fresh_parameters()} == {id(p) for p in objective.inner.parameters()}


def test_after_training_the_leading_dimensions_tell_pairs_apart_and_others_do_not_as_well(build, tmp_path):
    from benchmarks.claims.mechanics.matryoshka import check

    objective, checkpoint = build(MatryoshkaConfig(dimensions=(32, 4)))
    records = []
    settings = TrainingConfig(learning_rate=3e-3, batch_tokens=1000, evaluations=0, max_epochs=100)
    train(checkpoint.encoder, objective, settings, BudgetConfig(tokens=15_000), tmp_path, 0, report=records.append)
    for name in ("dimension_32", "dimension_4"):
        assert np.mean([r.parts[name] for r in records[-3:]]) < 0.7 * np.mean([r.parts[name] for r in records[:3]])
    found = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert found["holds"]
    fresh, untrained = build(MatryoshkaConfig(dimensions=(32, 4)))
    assert check(fresh, untrained.encoder, np.random.default_rng(0))["leading"] > 1.2 * found["leading"]


def test_one_pair_and_passages_of_one_token_and_the_longest_are_taken(build):
    objective, checkpoint = build(MatryoshkaConfig(objective=ContrastiveConfig(negatives=0)))
    assert torch.isfinite(objective.loss(checkpoint.encoder, objective.collate([0], np.random.default_rng(0))).total)
    for longest in (3, 8):
        objective, checkpoint = build(MatryoshkaConfig(objective=RetroMAEConfig()), max_tokens=longest)
        batch = objective.collate(range(3), np.random.default_rng(0))
        assert batch.lengths.max() == longest
        assert torch.isfinite(objective.loss(checkpoint.encoder, batch).total)


def test_without_pairs_contrastive_widths_cannot_be_trained(build, tiny_data):
    assert MatryoshkaConfig().needs() == {"pairs"}
    with pytest.raises(CorpusError, match="pairs"):
        build(MatryoshkaConfig(), replace(tiny_data, pairs=None))


def test_widths_beyond_the_model_are_refused(build):
    with pytest.raises(ModelError, match="33 dimensions; the model has 2 layers and 32 dimensions"):
        build(MatryoshkaConfig(dimensions=(33, 8)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dimensions": ()},
        {"dimensions": (0, 8)},
        {"dimensions": (8, 8)},
        {"dimensions": (16, 8), "weights": (1.0,)},
        {"weights": (1.0,)},
        {"dimensions": (8,), "weights": (0.0,)},
        {"objective": {"kind": "sum"}},
        {"objective": {"kind": "matryoshka"}},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        MatryoshkaConfig.model_validate(wrong)
