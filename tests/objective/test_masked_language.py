from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics import curriculum, rom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.objective.config import MaskedLanguageConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masked_language import MaskedLanguage

any_examples = st.lists(st.integers(0, 23), min_size=1, max_size=10, unique=True)


@pytest.fixture
def objective(tiny_checkpoint, tiny_data) -> MaskedLanguage:
    return MaskedLanguage(MaskedLanguageConfig(), tiny_data, tiny_checkpoint(), seed=0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_examples, st.integers(0, 2**31))
def test_collating_is_pure_and_deterministic(objective, examples, seed):
    first, second = (objective.collate(examples, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(first.inputs.packed.ids, second.inputs.packed.ids)
    assert torch.equal(first.inputs.places, second.inputs.places)
    assert torch.equal(first.inputs.targets, second.inputs.targets)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_examples, st.integers(1, 9))
def test_a_batch_collated_in_parts_is_the_batch(objective, examples, cut):
    whole = objective.collate(examples, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    parts = [objective.collate(part, rng) for part in (examples[:cut], examples[cut:]) if part]
    assert torch.equal(torch.cat([part.inputs.packed.ids for part in parts]), whole.inputs.packed.ids)


def test_hidden_tokens_put_back_give_the_passage(objective, tiny_data):
    inputs = objective.collate([5], np.random.default_rng(0)).inputs
    ids = inputs.packed.ids.clone()
    ids[inputs.places] = inputs.targets
    tokenizer = objective.tokenizer
    assert ids.tolist() == [tokenizer.cls, *tiny_data.passages[5].tolist(), tokenizer.sep]
    assert (inputs.packed.ids == tokenizer.mask).any()


def test_loss_is_the_plain_cross_entropy_over_hidden_tokens(objective, tiny_checkpoint):
    encoder = tiny_checkpoint().encoder
    batch = objective.collate(range(8), np.random.default_rng(1))
    loss = objective.loss(encoder, batch)
    hidden = encoder(batch.inputs.packed)
    logits = objective.head(hidden, encoder.embeddings.tokens.weight)
    expected = F.cross_entropy(logits[batch.inputs.places], batch.inputs.targets)
    torch.testing.assert_close(loss.total, expected)
    assert loss.weight == len(batch.inputs.targets)


def test_only_rows_that_may_be_trained_on_and_hold_words_are_examples(tiny_checkpoint, tiny_data):
    data = TrainingData(tiny_data.passages, np.array([2, 9]), tiny_data.documents)
    objective = MaskedLanguage(MaskedLanguageConfig(), data, tiny_checkpoint(), seed=0)
    assert objective.lengths().tolist() == [min(32, len(data.passages[row]) + 2) for row in (2, 9)]


def test_the_checkpoints_own_head_is_trained_in_place_at_the_pretrained_rate(tiny_checkpoint, tiny_data):
    head = MaskedLanguageHead(tiny_checkpoint().encoder.config)
    objective = MaskedLanguage(MaskedLanguageConfig(), tiny_data, tiny_checkpoint(head=head), seed=0)
    assert objective.head is head
    assert list(objective.fresh_parameters()) == []


def test_a_fresh_head_is_drawn_from_the_seed(tiny_checkpoint, tiny_data):
    heads = [MaskedLanguage(MaskedLanguageConfig(), tiny_data, tiny_checkpoint(), seed).head for seed in (1, 1, 2)]
    assert torch.equal(heads[0].dense.weight, heads[1].dense.weight)
    assert not torch.equal(heads[0].dense.weight, heads[2].dense.weight)


def test_the_head_costs_only_what_is_hidden(objective, tiny_checkpoint):
    encoder = tiny_checkpoint().encoder
    batch = objective.collate(range(4), np.random.default_rng(0))
    forward = encoder.flops(batch.lengths.tolist())
    width, vocabulary = encoder.config.hidden_size, encoder.config.vocabulary_size
    head = 2 * len(batch.inputs.targets) * width * (width + vocabulary)
    assert objective.flops(encoder, batch) == pytest.approx(3 * (forward + head))


def test_by_importance_what_is_hidden_is_rarer_at_the_same_rate(tiny_checkpoint, tiny_data):
    checkpoint = tiny_checkpoint()
    found = [
        rom.check(
            MaskedLanguage(MaskedLanguageConfig(choose=choose), tiny_data, checkpoint, seed=0),
            checkpoint.encoder,
            np.random.default_rng(0),
        )
        for choose in ("random", "importance")
    ]
    assert [one["holds"] for one in found] == [False, True]
    assert found[0]["rate"] == pytest.approx(found[1]["rate"])


def test_a_curriculum_hides_what_it_says_in_training(tiny_checkpoint, tiny_data):
    checkpoint = tiny_checkpoint()
    config = MaskedLanguageConfig(masking_rate=0.2, final_rate=0.6, strategy_from=0.5, whole_words=True)
    objective = MaskedLanguage(config, tiny_data, checkpoint, seed=0)
    assert curriculum.check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]
    hidden = []
    for progress in (0.0, 1.0):
        objective.progress = progress
        hidden.append(len(objective.collate(range(24), np.random.default_rng(0)).inputs.targets))
    assert hidden[1] / hidden[0] == pytest.approx(3, rel=0.15)
