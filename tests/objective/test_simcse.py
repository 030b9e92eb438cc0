from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.simcse import check
from pydantic import ValidationError

from corpusmith.errors import CorpusError
from corpusmith.objective.config import SimCSEConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.simcse import SimCSE
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import dropping, train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(checkpoint=None, data=tiny_data, **options) -> SimCSE:
        return SimCSE(SimCSEConfig(**options), data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def vectors_of(objective, encoder, batch) -> torch.Tensor:
    with torch.no_grad(), dropping(encoder, objective.dropout):
        torch.manual_seed(0)
        return objective._encode(encoder, batch.inputs.pieces)


def test_every_passage_stands_twice_in_the_batch(make, texts_of, tiny_data):
    objective = make()
    batch = objective.collate([3, 8], np.random.default_rng(0))
    texts = texts_of(batch.inputs.pieces)
    assert len(batch.inputs.pieces) == 1
    for one, other, row in zip(texts[:2], texts[2:], (3, 8), strict=True):
        assert torch.equal(one, other)
        assert one[1:-1].tolist() == tiny_data.passages[row][:30].tolist()
    assert batch.tokens == objective.lengths()[[3, 8]].sum()


def test_the_two_readings_differ_by_dropout_alone(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(8), np.random.default_rng(0))
    first, second = vectors_of(objective, encoder.train(), batch).chunk(2)
    assert (first - second).norm(dim=1).min() > 1e-3
    first, second = vectors_of(objective, encoder.eval(), batch).chunk(2)
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


def test_loss_and_gradients_are_those_of_plain_infonce(
    make, tiny_checkpoint, texts_of, unit_vectors, plain_info_nce, assert_equal_losses
):
    objective, encoder = make(temperature=0.1), tiny_checkpoint().encoder.eval()
    examples = [0, 1, 4, 9]  # the first two are of one document
    batch = objective.collate(examples, np.random.default_rng(0))
    vectors = unit_vectors(encoder, texts_of(batch.inputs.pieces))
    expected = plain_info_nce(vectors[:4], vectors[4:], [[0, 2, 3], [1, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]], 0.1)
    assert_equal_losses(objective.loss(encoder, batch).total, expected, encoder)


def test_pieces_computed_a_second_time_draw_the_same_dropout(make, tiny_checkpoint):
    """The gradient of a batch in recomputed pieces is the derivative of the very loss that was computed."""
    objective, encoder = make(recompute_above=60), tiny_checkpoint().encoder.train()
    batch = objective.collate(range(6), np.random.default_rng(0))
    assert len(batch.inputs.pieces) > 2
    weight = encoder.layers[0].mlp.up.weight
    with dropping(encoder, 0.3):
        torch.manual_seed(5)
        loss = objective.loss(encoder, batch).total
        (gradient,) = torch.autograd.grad(loss, weight)
        direction = gradient / gradient.norm()
        values = []
        for step in (-1e-2, 1e-2):
            with torch.no_grad():
                weight += step * direction
                torch.manual_seed(5)
                values.append(float(objective.loss(encoder, batch).total))
                weight -= step * direction
    assert (values[1] - values[0]) / 2e-2 == pytest.approx(float(gradient.norm()), rel=0.05)


def test_training_drops_what_the_option_says_and_lowers_the_loss(tiny_checkpoint, make, tmp_path):
    checkpoint = tiny_checkpoint()
    objective = make(checkpoint, dropout=0.2)
    assert objective.dropout == 0.2
    log: list = []
    config = TrainingConfig(batch_tokens=700, learning_rate=1e-3, evaluations=0, max_epochs=10**6, precision="float32")
    budget = BudgetConfig(tokens=20_000)
    train(checkpoint.encoder, objective, config, budget, tmp_path, seed=0, report=log.append)
    losses = [record.loss for record in log if hasattr(record, "loss")]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert checkpoint.encoder.dropout == 0.0
    assert check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]


def test_a_batch_of_one_passage_teaches_nothing_and_does_not_fail(make, tiny_checkpoint):
    objective = make()
    loss = objective.loss(tiny_checkpoint().encoder, objective.collate([3], np.random.default_rng(0)))
    assert float(loss.total.detach()) == 0.0


def test_passages_of_one_token_are_read(make, tiny_checkpoint, tiny_data):
    passages = type(tiny_data.passages)(tiny_data.passages.tokens[:3], np.arange(4))
    objective = make(data=TrainingData(passages, np.arange(3), np.arange(3)))
    batch = objective.collate([0, 1, 2], np.random.default_rng(0))
    assert batch.lengths.tolist() == [3] * 6
    assert torch.isfinite(objective.loss(tiny_checkpoint().encoder, batch).total)


def test_no_passage_is_one_clear_sentence(make, tiny_data):
    with pytest.raises(CorpusError, match="no passage to train on"):
        make(data=TrainingData(tiny_data.passages, np.array([], dtype=np.int64), tiny_data.documents))


@pytest.mark.parametrize("wrong", [{"dropout": 0}, {"dropout": 1}, {"temperature": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        SimCSEConfig(**wrong)
