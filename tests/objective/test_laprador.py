from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.laprador import check
from pydantic import ValidationError

from corpusmith.errors import CorpusError
from corpusmith.objective.config import LaPraDoRConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.laprador import LaPraDoR
from corpusmith.objective.queue import EMPTY
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, linked_data):
    def start(checkpoint=None, data=linked_data, **options) -> LaPraDoR:
        options = {"queue": 32, "turn": 2} | options
        return LaPraDoR(LaPraDoRConfig(**options), data, checkpoint or tiny_checkpoint(max_tokens=64), seed=0)

    return start


def step(objective, encoder, examples, seed=0):
    """One step that changes the encoder's weights; gives its batch."""
    batch = objective.collate(examples, np.random.default_rng(seed))
    loss = objective.loss(encoder, batch)
    gradients = torch.autograd.grad(loss.total, list(encoder.parameters()), allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(encoder.parameters(), gradients, strict=True):
            if gradient is not None:
                parameter -= 0.1 * gradient
    objective.after_step(encoder)
    return batch


def test_collating_is_deterministic_and_cuts_a_sentence_out(make, texts_of, linked_data):
    objective = make(keep_rate=0)
    first, second = (objective.collate(range(6), np.random.default_rng(2)) for _ in range(2))
    assert torch.equal(first.inputs.first[0].ids, second.inputs.first[0].ids)
    queries, rests = (texts_of(side) for side in (first.inputs.first, first.inputs.second))
    for query, rest, row in zip(queries, rests, range(6), strict=True):
        both = sorted([*query[1:-1].tolist(), *rest[1:-1].tolist()])
        assert both == sorted(linked_data.passages[row].tolist())


def test_cached_negatives_are_what_the_fixed_encoder_would_compute_now(make, tiny_checkpoint, texts_of, unit_vectors):
    checkpoint = tiny_checkpoint(max_tokens=64)
    objective, encoder = make(checkpoint, turn=3), checkpoint.encoder
    batches = [step(objective, encoder, examples) for examples in ([0, 3, 6], [9, 12])]
    texts = [text for batch in batches for text in texts_of(batch.inputs.second)]
    torch.testing.assert_close(objective.queue[:5], unit_vectors(objective.key_encoder, texts), atol=1e-5, rtol=1e-5)
    assert (objective.queue[:5] - unit_vectors(encoder, texts)).abs().max() > 1e-3
    assert objective.queue_documents[:6].tolist() == [0, 1, 2, 3, 4, EMPTY]


def test_after_a_turn_the_sides_change_the_copy_follows_and_the_queue_is_empty(make, tiny_checkpoint):
    checkpoint = tiny_checkpoint(max_tokens=64)
    objective, encoder = make(checkpoint, turn=2), checkpoint.encoder
    sides = []
    for _ in range(5):
        sides.append(objective.swapped)
        step(objective, encoder, [0, 3, 6])
    assert sides == [False, False, True, True, False]
    objective = make(checkpoint, turn=1)
    step(objective, encoder, [0, 3, 6])
    assert (objective.queue_documents == EMPTY).all()
    for one, other in zip(encoder.parameters(), objective.key_encoder.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("swapped", [False, True])
def test_loss_and_gradients_are_those_of_plain_infonce(
    make, tiny_checkpoint, texts_of, unit_vectors, plain_info_nce, assert_equal_losses, swapped
):
    checkpoint = tiny_checkpoint(max_tokens=64)
    objective, encoder = make(checkpoint, temperature=0.1, turn=2), checkpoint.encoder
    for _ in range(3 if swapped else 1):
        step(objective, encoder, [9, 12])  # of the documents 3 and 4
    batch = objective.collate([0, 1, 6, 9], np.random.default_rng(1))  # of the documents 0, 0, 2, 3
    sides = [texts_of(batch.inputs.first), texts_of(batch.inputs.second)]
    asking, asked = reversed(sides) if swapped else sides
    vectors = torch.cat([unit_vectors(objective.key_encoder, asked), objective.queue[:2]])
    candidates = [[0, 2, 3, 4, 5], [1, 2, 3, 4, 5], [2, 0, 1, 3, 4, 5], [3, 0, 1, 2, 5]]
    expected = plain_info_nce(unit_vectors(encoder, asking), vectors, candidates, 0.1)
    assert_equal_losses(objective.loss(encoder, batch).total, expected, encoder)


def test_cost_counts_the_side_that_is_trained_three_times(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(5), np.random.default_rng(0))
    queries, passages = (encoder.flops(part.tolist()) for part in np.split(batch.lengths, 2))
    assert objective.flops(encoder, batch) == pytest.approx(3 * queries + passages)
    objective.steps.fill_(objective.config.turn)
    assert objective.flops(encoder, batch) == pytest.approx(queries + 3 * passages)


def test_lengths_foretell_what_batches_cost(make):
    objective = make()
    spent = sum(objective.collate(range(24), np.random.default_rng(seed)).tokens for seed in range(5))
    assert objective.lengths().sum() == pytest.approx(spent / 5, rel=0.1)


def test_training_lowers_the_loss(make, tiny_checkpoint, tmp_path):
    checkpoint = tiny_checkpoint(max_tokens=64)
    objective = make(checkpoint, turn=10)
    log: list = []
    config = TrainingConfig(batch_tokens=500, learning_rate=2e-3, evaluations=0, max_epochs=10**6, precision="float32")
    budget = BudgetConfig(tokens=15_000)
    train(checkpoint.encoder, objective, config, budget, tmp_path, seed=0, report=log.append)
    losses = [record.loss for record in log if hasattr(record, "loss")]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]


def test_passages_of_one_token_only_are_one_clear_sentence(make, linked_data):
    passages = type(linked_data.passages)(linked_data.passages.tokens[:3], np.arange(4))
    with pytest.raises(CorpusError, match="no passage of at least two tokens"):
        make(data=TrainingData(passages, np.arange(3), np.arange(3)))


@pytest.mark.parametrize("wrong", [{"turn": 0}, {"queue": 0}, {"keep_rate": -0.1}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        LaPraDoRConfig(**wrong)
