from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.cocondenser import check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional as F

from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import CorpusError
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.objective.cocondenser import CoCondenser
from corpusmith.objective.condenser import Condenser
from corpusmith.objective.config import CoCondenserConfig
from corpusmith.objective.data import TrainingData
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(data: TrainingData = tiny_data, checkpoint=None, **options) -> CoCondenser:
        return CoCondenser(CoCondenserConfig(**options), data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def text_of(objective, document: int) -> list[int]:
    """The tokens of a document, from one passage after the other."""
    data = objective.data
    rows = [row for row in objective.rows if data.documents[row] == document]
    return np.concatenate([data.passages[row] for row in rows]).tolist()


def spans_of(objective, batch) -> list[list[int]]:
    """Each span's tokens as they were, without special tokens."""
    spans = []
    for piece in batch.inputs:
        ids = piece.packed.ids.clone()
        ids[piece.places] = piece.targets
        spans += [part.tolist()[1:-1] for part in ids.split(piece.packed.lengths.tolist())]
    return spans


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.integers(4, 40))
def test_spans_are_two_parts_of_one_document_that_do_not_overlap(make, seed, span_tokens):
    objective = make(span_tokens=span_tokens)
    batch = objective.collate([2, 7, 11], np.random.default_rng(seed))
    spans = spans_of(objective, batch)
    for document, first, second in zip((2, 7, 11), spans[::2], spans[1::2], strict=True):
        text = text_of(objective, document)
        assert len(first) == len(second) == min(span_tokens, len(text) // 2, 30)
        starts = [i for i in range(len(text)) if text[i : i + len(first)] == first]
        ends = [i + len(second) for i in range(len(text)) if text[i : i + len(second)] == second]
        assert starts
        assert ends
        assert max(ends) - min(starts) >= len(first) + len(second)
    assert batch.lengths.sum() == objective.lengths()[[2, 7, 11]].sum()


def test_every_part_of_a_document_is_drawn(make):
    objective = make(span_tokens=4)
    length = objective.bounds[3, 1] - objective.bounds[3, 0]
    rng, starts = np.random.default_rng(0), set()
    for _ in range(300):
        spans = objective._draw(objective.bounds[3:4], rng) - objective.bounds[3, 0]
        assert spans[0, 1] <= spans[1, 0]
        assert 0 <= spans.min() <= spans.max() <= length
        starts |= set(spans[:, 0].tolist())
    assert starts == set(range(length - 3))


def test_passages_that_may_not_be_trained_on_and_short_documents_are_left_out(tiny_checkpoint):
    lengths = [5, 0, 6, 4, 3, 9, 2, 20]
    documents = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    tokens = np.arange(50, 50 + sum(lengths)).astype(np.uint16)
    data = TrainingData(TokenShards(tokens, np.cumsum([0, *lengths])), np.array([0, 1, 2, 3, 4, 5, 6]), documents)
    objective = CoCondenser(CoCondenserConfig(), data, tiny_checkpoint(), seed=0)
    assert objective.lengths().tolist() == [2 * (5 + 2), 2 * (4 + 2)]  # of 11 tokens and of 9; 7 and 2 are too few
    first, second, *others = spans_of(objective, objective.collate([0, 1], np.random.default_rng(1)))
    assert {*first, *second} <= set(range(50, 61))
    assert {token for span in others for token in span} <= set(range(68, 77))


def test_collating_is_pure_and_deterministic(make):
    objective = make()
    first, second = (objective.collate([4, 1, 9], np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first.inputs[0].packed.ids, second.inputs[0].packed.ids)
    assert torch.equal(first.inputs[0].targets, second.inputs[0].targets)


@pytest.mark.parametrize("normalize", [True, False])
def test_loss_is_condensers_and_the_contrast_of_all_spans(make, tiny_checkpoint, normalize):
    checkpoint = tiny_checkpoint(normalize=normalize)
    encoder, objective = checkpoint.encoder, make(checkpoint=checkpoint, temperature=0.2)
    batch = objective.collate([1, 4, 8], np.random.default_rng(3))
    loss = objective.loss(encoder, batch)
    naming = Condenser.loss(objective, encoder, batch).total
    bounds = batch.inputs[0].packed.cu_seqlens.tolist()
    spans = [pack([batch.inputs[0].packed.ids[a:b].numpy()]) for a, b in pairwise(bounds)]
    vectors = torch.cat([pool(encoder(span), span, "mean") for span in spans])
    vectors = F.normalize(vectors, dim=1) if normalize else vectors
    contrast = torch.zeros(())
    for i, partner in enumerate([1, 0, 3, 2, 5, 4]):
        scores = {j: vectors[i] @ vectors[j] / 0.2 for j in range(6) if j != i}
        contrast = contrast - (scores[partner] - torch.stack(list(scores.values())).logsumexp(0)) / 6
    expected = naming + contrast
    torch.testing.assert_close(loss.total, expected)
    assert loss.weight == 6
    assert loss.parts["contrast"] == pytest.approx(float(contrast.detach()), rel=1e-4)
    found = torch.autograd.grad(loss.total, list(encoder.parameters()), allow_unused=True)
    for one, other in zip(
        found, torch.autograd.grad(expected, list(encoder.parameters()), allow_unused=True), strict=True
    ):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_large_batches_encoded_in_pieces_have_the_same_loss_and_gradients(make, tiny_checkpoint):
    results = []
    for limit in (10**6, 60):
        checkpoint = tiny_checkpoint()
        objective = make(checkpoint=checkpoint, recompute_above=limit)
        batch = objective.collate(range(8), np.random.default_rng(0))
        loss = objective.loss(checkpoint.encoder, batch)
        loss.total.backward()
        parameters = [*checkpoint.encoder.parameters(), *objective.parameters()]
        results.append(
            (len(batch.inputs), loss, [p.grad for p in parameters], objective.flops(checkpoint.encoder, batch))
        )
    assert results[0][0] == 1 < results[1][0]
    torch.testing.assert_close(results[0][1].total, results[1][1].total)
    assert results[0][1].parts == pytest.approx(results[1][1].parts, rel=1e-4)
    assert results[0][3] == results[1][3]
    for one, other in zip(results[0][2], results[1][2], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_a_batch_of_one_document_has_no_contrast_and_does_not_fail(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    loss = objective.loss(encoder, objective.collate([3], np.random.default_rng(0)))
    assert loss.parts["contrast"] == 0
    assert loss.parts["head"] > 0


@pytest.mark.parametrize("rows", [[], [0, 1]])
def test_without_two_documents_there_is_one_clear_sentence(make, tiny_data, rows):
    with pytest.raises(CorpusError, match="no passage to train on" if not rows else "contrasts documents and found 1"):
        make(data=replace(tiny_data, rows=np.array(rows, dtype=np.int64)))


def test_after_training_spans_of_a_document_are_nearest_neighbours(tiny_checkpoint, tiny_data, tmp_path, make):
    checkpoint = tiny_checkpoint()
    objective = make(checkpoint=checkpoint, span_tokens=12)
    before = check(objective, checkpoint.encoder, np.random.default_rng(0))
    config = TrainingConfig(
        learning_rate=3e-3, fresh_learning_rate=3e-3, batch_tokens=400, max_epochs=10**6, precision="float32"
    )
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=60_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert after["holds"]
    assert after["partner_nearest"] > before["partner_nearest"] + 0.2


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"span_tokens": 3}, {"recompute_above": 0}, {"head_layers": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        CoCondenserConfig(**wrong)
