from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.reranking import check
from safetensors.torch import save_file
from torch.nn import functional as F

from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import CorpusError, ModelError
from corpusmith.model.packed import pack
from corpusmith.objective.config import PropConfig, RerankingConfig
from corpusmith.objective.data import PairSet, TrainingData
from corpusmith.objective.registry import build_objective, save_parts
from corpusmith.objective.reranking import Reranking
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(pairs: dict | None = None, checkpoint=None, **options) -> Reranking:
        data = replace(tiny_data, pairs=replace(tiny_data.pairs, **(pairs or {})))
        return Reranking(RerankingConfig(**options), data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def test_each_query_is_read_with_its_positive_and_then_its_negatives(make, tiny_data):
    objective, pairs = make(), tiny_data.pairs
    batch = objective.collate([4, 0], np.random.default_rng(0))
    ids, bounds = batch.inputs.packed.ids.tolist(), batch.inputs.packed.cu_seqlens.tolist()
    found = [ids[start:stop] for start, stop in pairwise(bounds)]
    cls, sep = objective.tokenizer.cls, objective.tokenizer.sep
    expected = []
    for number, negatives in ((4, {10, 16}), (0, {6})):
        query = [cls, *pairs.queries[number], sep]
        passages = [pairs.positives[number], *(tiny_data.passages[row] for row in negatives)]
        whole = [[*query, *passage, sep] for passage in passages]
        expected.append([ids if len(ids) <= 32 else [*ids[:31], sep] for ids in whole])
    assert found[0] == expected[0][0]
    assert sorted(found[1:3]) == sorted(expected[0][1:])
    assert found[3:] == expected[1]
    assert batch.inputs.listed.tolist() == [[True, True, True], [True, True, False]]


def test_collating_is_deterministic_and_may_be_done_in_parts(make):
    objective = make(negatives=1)
    first, second = (objective.collate([3, 1, 15, 8], np.random.default_rng(9)) for _ in range(2))
    assert torch.equal(first.inputs.packed.ids, second.inputs.packed.ids)
    rng = np.random.default_rng(9)
    parts = [objective.collate(part, rng) for part in ([3], [1, 15, 8])]
    assert torch.equal(torch.cat([part.inputs.packed.ids for part in parts]), first.inputs.packed.ids)


def test_passages_of_the_positives_document_are_no_negatives(make):
    objective = make(pairs={"negatives": np.tile([1, 5], (24, 1))})  # 0 and 1 are of one document
    listed = objective.collate([0, 9], np.random.default_rng(0)).inputs.listed
    assert listed.sum(dim=1).tolist() == [2, 3]
    unknown = make(pairs={"negatives": np.tile([1, 5], (24, 1)), "documents": np.full(24, -1)})
    assert unknown.collate([0, 9], np.random.default_rng(0)).inputs.listed.all()


def test_lengths_are_what_a_list_costs_when_all_negatives_are_drawn(make):
    objective = make()
    for number in (0, 1, 13):
        assert objective.collate([number], np.random.default_rng(0)).tokens == objective.lengths()[number]


def reference(objective, encoder, batch) -> torch.Tensor:
    """The formulas of the module, one pair at a time."""
    ids, bounds = batch.inputs.packed.ids.numpy(), batch.inputs.packed.cu_seqlens.tolist()
    u, c = objective.score.linear.weight[0], objective.score.linear.bias[0]
    scores = [encoder(pack([ids[start:stop]]))[0] @ u + c for start, stop in pairwise(bounds)]
    losses, place = [], 0
    for held in batch.inputs.listed.sum(dim=1).tolist():
        candidates = torch.stack(scores[place : place + held])
        place += held
        if held > 1:
            losses.append(F.cross_entropy(candidates[None], torch.tensor([0])))
    return torch.stack(losses).mean()


def test_loss_and_gradients_are_those_of_the_formulas(make, tiny_checkpoint, tiny_data):
    negatives = tiny_data.pairs.negatives.copy()
    negatives[7] = -1
    found = []
    for compute in (lambda o, e, b: o.loss(e, b).total, reference):
        checkpoint = tiny_checkpoint()
        objective = make(pairs={"negatives": negatives}, checkpoint=checkpoint)
        batch = objective.collate([0, 4, 7, 11], np.random.default_rng(2))
        total = compute(objective, checkpoint.encoder, batch)
        total.backward()
        parameters = [*checkpoint.encoder.parameters(), *objective.parameters()]
        found.append((total.detach(), [p.grad for p in parameters if p.grad is not None]))
    assert objective.loss(checkpoint.encoder, batch).weight == 3
    torch.testing.assert_close(found[0][0], found[1][0])
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_queries_without_negatives_have_no_weight_and_no_gradient(make, tiny_checkpoint, tiny_data):
    negatives = tiny_data.pairs.negatives.copy()
    negatives[:3] = -1
    objective, encoder = make(pairs={"negatives": negatives}), tiny_checkpoint().encoder
    loss = objective.loss(encoder, objective.collate([0, 2], np.random.default_rng(0)))
    loss.total.backward()
    assert (loss.weight, float(loss.total.detach())) == (0, 0)
    assert all(p.grad is None or not p.grad.any() for p in encoder.parameters())


def test_no_pairs_and_no_negatives_are_one_clear_sentence(make, tiny_checkpoint, tiny_data):
    with pytest.raises(CorpusError, match="reranking needs pairs"):
        Reranking(RerankingConfig(), replace(tiny_data, pairs=None), tiny_checkpoint(), seed=0)
    with pytest.raises(CorpusError, match=r"pairs\.candidates above 0"):
        make(pairs={"negatives": np.empty((24, 0), dtype=np.int64)})


def test_it_begins_with_props_score_where_there_is_no_better_one(tiny_checkpoint, tiny_data, tmp_path):
    prop = build_objective(PropConfig(), tiny_data, tiny_checkpoint(), seed=5)
    save_parts(prop, "prop", tmp_path)
    folder = tmp_path / "objectives"
    checkpoint = tiny_checkpoint(parts={"prop": folder / "prop.safetensors"})
    begun = build_objective(RerankingConfig(), tiny_data, checkpoint, seed=9)
    assert torch.equal(begun.score.linear.weight, prop.score.linear.weight)
    assert begun.continued
    other = build_objective(RerankingConfig(), tiny_data, tiny_checkpoint(), seed=6)
    assert not torch.equal(other.score.linear.weight, prop.score.linear.weight)
    save_parts(other, "reranking", tmp_path)
    checkpoint.parts["reranking"] = folder / "reranking.safetensors"
    own = build_objective(RerankingConfig(), tiny_data, checkpoint, seed=9)
    assert torch.equal(own.score.linear.weight, other.score.linear.weight)


def test_a_score_of_another_size_is_refused_by_name(tiny_checkpoint, tiny_data, tmp_path):
    save_file({"score.linear.weight": torch.zeros(1, 8), "score.linear.bias": torch.zeros(1)}, tmp_path / "prop.st")
    with pytest.raises(ModelError, match=r"prop\.st cannot be trained on with"):
        build_objective(RerankingConfig(), tiny_data, tiny_checkpoint(parts={"prop": tmp_path / "prop.st"}), seed=0)


def test_cost_counts_every_pair(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate([1, 2], np.random.default_rng(0))
    assert len(batch.lengths) == 6
    expected = encoder.flops(batch.lengths.tolist()) + 2 * 32 * 6
    assert objective.flops(encoder, batch) == pytest.approx(3 * expected)


def test_training_puts_the_positive_first_for_its_own_query_alone(tiny_checkpoint, tmp_path):
    """Queries and passages are of one of two topics of four words each; a query's negatives are of the other topic."""
    rng, checkpoint = np.random.default_rng(0), tiny_checkpoint()
    topics = np.arange(60) % 2
    passages = shards_of(10 + 4 * topics[:, None] + rng.integers(0, 4, (60, 8)))
    pairs = PairSet(
        queries=shards_of(10 + 4 * topics[:, None] + rng.integers(0, 4, (60, 3))),
        positives=passages,
        negatives=np.stack([(np.arange(60) + 1) % 60, (np.arange(60) + 7) % 60], axis=1),
        documents=np.arange(60),
        kinds=np.zeros(60, dtype=np.int64),
        kind_names=("topic",),
    )
    data = TrainingData(passages, np.arange(60), np.arange(60), pairs)
    objective = Reranking(RerankingConfig(), data, checkpoint, seed=0)
    config = TrainingConfig(
        learning_rate=3e-3, fresh_learning_rate=3e-3, batch_tokens=600, max_epochs=10**6, precision="float32"
    )
    batch = objective.collate(range(60), np.random.default_rng(1))
    with torch.no_grad():
        before = objective.loss(checkpoint.encoder, batch)
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=40_000), tmp_path, seed=0)
    with torch.no_grad():
        after = objective.loss(checkpoint.encoder, batch)
    assert float(after.total) < 0.5 * float(before.total)
    assert after.parts["accuracy"] > 0.8
    assert check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]


def shards_of(texts: np.ndarray) -> TokenShards:
    return TokenShards(texts.reshape(-1).astype(np.uint16), np.arange(0, texts.size + 1, texts.shape[1]))
