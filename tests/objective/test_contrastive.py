from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from corpusmith.errors import CorpusError
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.objective.config import ContrastiveConfig
from corpusmith.objective.contrastive import Contrastive

any_examples = st.lists(st.integers(0, 23), min_size=1, max_size=10, unique=True)


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(pairs: dict | None = None, checkpoint=None, **options) -> Contrastive:
        data = replace(tiny_data, pairs=replace(tiny_data.pairs, **(pairs or {})))
        return Contrastive(ContrastiveConfig(**options), data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def vectors_of(objective, encoder, texts) -> torch.Tensor:
    """Unit vectors of token sequences, one at a time."""
    packed = [pack([objective.tokenizer.with_specials(ids, objective.max_tokens)]) for ids in texts]
    return F.normalize(torch.cat([pool(encoder(one), one, "mean") for one in packed]), dim=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_examples, st.integers(0, 2**31), st.integers(0, 3))
def test_collating_is_pure_and_deterministic(make, examples, seed, negatives):
    objective = make(negatives=negatives)
    first, second = (objective.collate(examples, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(first.inputs.pieces[0].ids, second.inputs.pieces[0].ids)
    assert torch.equal(first.inputs.excluded, second.inputs.excluded)
    assert first.inputs.excluded.shape[0] == len(examples)
    assert len(first.lengths) == sum(first.inputs.excluded.shape)


def test_loss_is_infonce_over_positives_and_all_drawn_negatives(make, tiny_checkpoint, tiny_data):
    objective, encoder = make(negatives=2, temperature=0.1), tiny_checkpoint().encoder
    examples = [0, 4, 9]
    loss = objective.loss(encoder, objective.collate(examples, np.random.default_rng(0)))
    pairs = tiny_data.pairs
    rows = np.unique(pairs.negatives[examples][pairs.negatives[examples] >= 0])
    queries = vectors_of(objective, encoder, [pairs.queries[i] for i in examples])
    texts = [pairs.positives[i] for i in examples] + [tiny_data.passages[row] for row in rows]
    similarities = queries @ vectors_of(objective, encoder, texts).T / 0.1
    documents = np.concatenate([pairs.documents[examples], tiny_data.documents[rows]])
    for i, document in enumerate(documents[:3]):
        for j in np.flatnonzero(documents == document):
            if j != i:
                similarities[i, j] = -torch.inf
    torch.testing.assert_close(loss.total, F.cross_entropy(similarities, torch.arange(3)), atol=1e-5, rtol=1e-5)
    assert loss.weight == 3
    assert loss.parts["accuracy"] == pytest.approx(
        float((similarities.argmax(dim=1) == torch.arange(3)).float().mean())
    )


def test_passages_of_one_document_are_not_each_others_negatives(make):
    excluded = make(negatives=0).collate([0, 1, 2, 5], np.random.default_rng(0)).inputs.excluded
    assert excluded.tolist() == [[i != j and {i, j} == {0, 1} for j in range(4)] for i in range(4)]


def test_unknown_documents_are_not_taken_for_one_and_the_same(make):
    objective = make(pairs={"documents": np.full(24, -1)}, negatives=0)
    assert not objective.collate([0, 1, 2], np.random.default_rng(0)).inputs.excluded.any()


def test_passages_with_the_same_text_are_not_each_others_negatives(make, tiny_data):
    positives = [tiny_data.pairs.positives[0 if i == 7 else i] for i in range(24)]
    excluded = make(pairs={"positives": positives}, negatives=0).collate([0, 3, 7], np.random.default_rng(0)).inputs
    assert excluded.excluded.tolist() == [[False, False, True], [False, False, False], [True, False, False]]


def test_a_mined_negative_of_the_querys_own_document_does_not_count(make):
    negatives = np.full((24, 1), 1)  # a passage of the first document
    inputs = make(pairs={"negatives": negatives}, negatives=1).collate([0, 4], np.random.default_rng(0)).inputs
    assert inputs.excluded.tolist() == [[False, False, True], [False, False, False]]


def test_negatives_are_drawn_from_those_there_are_without_repetition(make, tiny_data):
    objective = make(negatives=5)
    rows = objective._draw(tiny_data.pairs.negatives, np.random.default_rng(0))
    for drawn, available in zip(rows, tiny_data.pairs.negatives, strict=True):
        assert sorted(available[drawn[drawn >= 0]]) == sorted(available[available >= 0])
    one = make(negatives=1)
    choices = {tuple(one._draw(tiny_data.pairs.negatives[1:2], np.random.default_rng(s))[0]) for s in range(20)}
    assert choices == {(0,), (1,)}


def test_a_negative_of_two_queries_is_encoded_once(make):
    objective = make(pairs={"negatives": np.full((24, 1), 20)}, negatives=1)
    assert len(objective.collate([0, 4, 8], np.random.default_rng(0)).lengths) == 3 + 3 + 1


def test_lengths_foretell_what_pairs_cost_when_all_negatives_are_drawn(make, tiny_data):
    objective = make(negatives=2)
    batch = objective.collate([1], np.random.default_rng(0))
    assert batch.tokens == objective.lengths()[1]


def test_symmetric_loss_averages_both_directions(make, tiny_checkpoint, tiny_data):
    objective, encoder = make(negatives=0, symmetric=True), tiny_checkpoint().encoder
    examples = [0, 4, 9, 15]
    loss = objective.loss(encoder, objective.collate(examples, np.random.default_rng(0)))
    queries = vectors_of(objective, encoder, [tiny_data.pairs.queries[i] for i in examples])
    positives = vectors_of(objective, encoder, [tiny_data.pairs.positives[i] for i in examples])
    logits = queries @ positives.T / 0.05
    answers = torch.arange(4)
    expected = (F.cross_entropy(logits, answers) + F.cross_entropy(logits.T, answers)) / 2
    torch.testing.assert_close(loss.total, expected, atol=1e-4, rtol=1e-4)


def test_large_batches_encoded_in_pieces_have_the_same_loss_and_gradient(make, tiny_checkpoint):
    results = []
    for limit in (10**6, 60):
        encoder = tiny_checkpoint().encoder
        objective = make(recompute_above=limit)
        batch = objective.collate(range(0, 24, 3), np.random.default_rng(0))
        loss = objective.loss(encoder, batch)
        loss.total.backward()
        results.append((len(batch.inputs.pieces), loss.total.detach(), [p.grad for p in encoder.parameters()]))
    assert results[0][0] == 1 < results[1][0]
    torch.testing.assert_close(results[0][1], results[1][1])
    for one, other in zip(results[0][2], results[1][2], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def teacher_scores() -> np.ndarray:
    scores = np.random.default_rng(0).normal(size=(24, 3))
    scores[:, 1:][np.arange(24) % 3 == 0, 1] = np.nan  # there the second negative is missing
    scores[5] = np.nan
    return scores


def test_distillation_is_the_divergence_from_the_teachers_distribution(make, tiny_checkpoint, tiny_data):
    scores = teacher_scores()
    options = {"negatives": 2, "temperature": 0.1, "distillation": 0.5, "teacher_temperature": 2.0}
    objective, encoder = make(pairs={"scores": scores}, **options), tiny_checkpoint().encoder
    examples = [0, 4, 5, 10]
    loss = objective.loss(encoder, objective.collate(examples, np.random.default_rng(0)))
    divergences = []
    for i in (0, 4, 10):
        rows = tiny_data.pairs.negatives[i]
        texts = [tiny_data.pairs.positives[i]] + [tiny_data.passages[row] for row in rows if row >= 0]
        query = vectors_of(objective, encoder, [tiny_data.pairs.queries[i]])
        student = (vectors_of(objective, encoder, texts) @ query[0] / 0.1).log_softmax(0)
        known = scores[i][np.isfinite(scores[i])]
        teacher = (torch.tensor(known, dtype=torch.float32) / 2.0).softmax(0)
        divergences.append(F.kl_div(student, teacher, reduction="sum"))
    expected = float(torch.stack(divergences).mean().detach())
    assert loss.parts["distillation"] == pytest.approx(expected, abs=1e-4)
    assert float(loss.total.detach()) == pytest.approx(loss.parts["info_nce"] + 0.5 * expected, abs=1e-4)


def test_gradients_are_numbers_when_the_teacher_knows_nothing(make, tiny_checkpoint):
    scores = np.full((24, 3), np.nan)
    objective, encoder = make(pairs={"scores": scores}, negatives=2, distillation=1.0), tiny_checkpoint().encoder
    objective.loss(encoder, objective.collate(range(6), np.random.default_rng(0))).total.backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_gradients_are_numbers_where_the_teacher_knows_some(make, tiny_checkpoint):
    objective = make(pairs={"scores": teacher_scores()}, negatives=2, distillation=1.0)
    encoder = tiny_checkpoint().encoder
    objective.loss(encoder, objective.collate(range(12), np.random.default_rng(0))).total.backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_vectors_are_scaled_only_where_the_checkpoints_are(make, tiny_checkpoint):
    checkpoint = tiny_checkpoint(normalize=False)
    objective = make(checkpoint=checkpoint)
    batch = objective.collate([0, 4], np.random.default_rng(0))
    lengths = objective._encode(checkpoint.encoder, batch.inputs.pieces).norm(dim=1)
    assert (lengths - 1).abs().max() > 0.1


@pytest.mark.parametrize("missing", ["no pairs", "empty pairs"])
def test_without_pairs_there_is_one_clear_sentence(tiny_checkpoint, tiny_data, missing):
    empty = replace(tiny_data.pairs, documents=np.array([], dtype=np.int64))
    data = replace(tiny_data, pairs=None if missing == "no pairs" else empty)
    with pytest.raises(CorpusError, match="needs pairs"):
        Contrastive(ContrastiveConfig(), data, tiny_checkpoint(), seed=0)


def test_a_single_pair_without_negatives_teaches_nothing_and_does_not_fail(make, tiny_checkpoint):
    objective, encoder = make(negatives=0), tiny_checkpoint().encoder
    loss = objective.loss(encoder, objective.collate([3], np.random.default_rng(0)))
    assert float(loss.total.detach()) == 0.0
