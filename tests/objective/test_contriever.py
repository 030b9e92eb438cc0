from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.contriever import check
from pydantic import ValidationError
from torch.nn import functional as F

from corpusmith.errors import CorpusError
from corpusmith.objective.config import ContrieverConfig
from corpusmith.objective.contriever import Contriever
from corpusmith.objective.data import TrainingData
from corpusmith.objective.queue import EMPTY
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train
from corpusmith.training.optimiser import named_parameters


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(checkpoint=None, data=tiny_data, **options) -> Contriever:
        return Contriever(ContrieverConfig(**({"queue": 10} | options)), data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def state_of(objective) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in objective.state_dict().items()}


def test_collating_is_deterministic_and_draws_two_crops_of_each_passage(make, texts_of, tiny_data):
    objective = make(deletion_rate=0)
    first, second = (objective.collate([3, 9], np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first.inputs.first[0].ids, second.inputs.first[0].ids)
    assert torch.equal(first.inputs.second[0].ids, second.inputs.second[0].ids)
    for side in (first.inputs.first, first.inputs.second):
        for text, row in zip(texts_of(side), (3, 9), strict=True):
            crop, passage = text[1:-1].tolist(), tiny_data.passages[row].tolist()
            assert any(passage[i : i + len(crop)] == crop for i in range(len(passage)))
            assert 0.1 * len(passage) - 0.5 <= len(crop) <= 0.5 * len(passage) + 0.5


def test_loss_and_gradients_are_those_of_plain_infonce_with_the_queue(
    make, tiny_checkpoint, texts_of, unit_vectors, plain_info_nce, assert_equal_losses
):
    objective, encoder = make(temperature=0.1, queue=4), tiny_checkpoint().encoder
    generator = torch.Generator().manual_seed(0)
    for parameter in objective.key_encoder.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    objective.queue.copy_(F.normalize(torch.randn(4, 32, generator=generator), dim=1))
    objective.queue_documents.copy_(torch.tensor([0, 7, EMPTY, -1]))
    batch = objective.collate([0, 1, 8, 15], np.random.default_rng(0))  # of the documents 0, 0, 4, 7
    queries = unit_vectors(encoder, texts_of(batch.inputs.first))
    keys = unit_vectors(objective.key_encoder, texts_of(batch.inputs.second))
    vectors = torch.cat([keys, objective.queue])  # 4 and 5 are of the documents 0 and 7, 6 is empty, 7 unknown
    candidates = [[0, 2, 3, 5, 7], [1, 2, 3, 5, 7], [2, 0, 1, 3, 4, 5, 7], [3, 0, 1, 2, 4, 7]]
    expected = plain_info_nce(queries, vectors, candidates, 0.1)
    found = objective.loss(encoder, batch)
    assert_equal_losses(found.total, expected, encoder)
    assert found.weight == 4


def test_a_rehearsed_step_changes_nothing(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    before = state_of(objective)
    objective.loss(encoder, objective.collate(range(6), np.random.default_rng(0))).total.backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.key_encoder.parameters())


def test_only_the_keys_of_the_step_itself_enter_the_queue(make, tiny_checkpoint, texts_of, unit_vectors):
    objective, encoder = make(momentum=0.5), tiny_checkpoint().encoder
    objective.loss(encoder, objective.collate(range(6, 12), np.random.default_rng(0)))  # a rehearsal
    batch = objective.collate([0, 4, 8], np.random.default_rng(1))
    objective.loss(encoder, batch)
    expected = unit_vectors(objective.key_encoder, texts_of(batch.inputs.second))
    objective.after_step(encoder)
    torch.testing.assert_close(objective.queue[:3], expected, atol=1e-5, rtol=1e-5)
    assert objective.queue_documents.tolist() == [0, 2, 4] + [EMPTY] * 7
    with pytest.raises(AssertionError, match="no loss"):
        objective.after_step(encoder)


def test_the_queue_keeps_the_newest(make, tiny_checkpoint):
    objective, encoder = make(queue=5), tiny_checkpoint().encoder
    for examples in ([0, 2], [4, 6], [8, 10]):
        objective.loss(encoder, objective.collate(examples, np.random.default_rng(0)))
        objective.after_step(encoder)
    assert objective.queue_documents.tolist() == [5, 1, 2, 3, 4]
    objective.loss(encoder, objective.collate(range(0, 16, 2), np.random.default_rng(0)))
    objective.after_step(encoder)
    assert sorted(objective.queue_documents.tolist()) == [3, 4, 5, 6, 7]


def test_the_momentum_encoder_follows_and_is_not_trained(make, tiny_checkpoint):
    checkpoint = tiny_checkpoint()
    objective, encoder = make(checkpoint, momentum=0.75), checkpoint.encoder
    assert [name for name in named_parameters(encoder, objective) if name.startswith("objective")] == []
    before = copy.deepcopy(objective.key_encoder)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 1.0
    objective.loss(encoder, objective.collate([0, 4], np.random.default_rng(0)))
    objective.after_step(encoder)
    for old, new, now in zip(
        before.parameters(), encoder.parameters(), objective.key_encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * new)


def test_cost_counts_the_momentum_encoders_forward_pass_once(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(5), np.random.default_rng(0))
    queries, keys = batch.lengths[:5].tolist(), batch.lengths[5:].tolist()
    assert objective.flops(encoder, batch) == pytest.approx(3 * encoder.flops(queries) + encoder.flops(keys))


def test_lengths_foretell_what_batches_cost(make):
    objective = make()
    spent = sum(objective.collate(range(24), np.random.default_rng(seed)).tokens for seed in range(10))
    assert objective.lengths().sum() == pytest.approx(spent / 10, rel=0.1)


def test_nothing_is_kept_beside_the_model(make):
    objective = make()
    assert objective.parts() == {}
    assert list(objective.fresh_parameters()) == []


def test_training_lowers_the_loss_and_fills_the_queue(make, tiny_checkpoint, tmp_path):
    checkpoint = tiny_checkpoint()
    objective = make(checkpoint, queue=16, shortest_crop=0.5, longest_crop=1.0, momentum=0.9)
    log: list = []
    config = TrainingConfig(batch_tokens=400, learning_rate=2e-3, evaluations=0, max_epochs=10**6, precision="float32")
    budget = BudgetConfig(tokens=15_000)
    train(checkpoint.encoder, objective, config, budget, tmp_path, seed=0, report=log.append)
    losses = [record.loss for record in log if hasattr(record, "loss")]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[3:8])  # the first few have an empty queue
    assert (objective.queue_documents >= 0).all()
    assert check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]


def test_passages_of_one_token_and_single_passages_do_not_fail(make, tiny_checkpoint, tiny_data):
    passages = type(tiny_data.passages)(tiny_data.passages.tokens[:3], np.arange(4))
    objective = make(data=TrainingData(passages, np.arange(3), np.arange(3)))
    for examples in ([0], [0, 1, 2]):
        loss = objective.loss(tiny_checkpoint().encoder, objective.collate(examples, np.random.default_rng(0)))
        assert torch.isfinite(loss.total)
    with pytest.raises(CorpusError, match="no passage to train on"):
        make(data=TrainingData(passages, np.array([], dtype=np.int64), np.arange(3)))


@pytest.mark.parametrize(
    "wrong",
    [{"momentum": 1}, {"queue": 0}, {"deletion_rate": 1}, {"shortest_crop": 0.6, "longest_crop": 0.5}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        ContrieverConfig(**wrong)
