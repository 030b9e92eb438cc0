from __future__ import annotations

import numpy as np
import pytest
import torch

from corpusmith.errors import ModelError
from corpusmith.model.cross_encoder import ScoreHead, join
from corpusmith.model.packed import pack
from corpusmith.objective.config import PropConfig, RerankingConfig
from corpusmith.objective.registry import build_objective, save_parts
from corpusmith.retrieval.rerank import Reranker, load_score_head


@pytest.fixture
def checkpoint(tiny_checkpoint):
    return tiny_checkpoint(name="tiny")


@pytest.fixture
def head(checkpoint) -> ScoreHead:
    return ScoreHead(checkpoint.encoder.config, torch.Generator().manual_seed(3))


def test_scores_are_those_of_each_pair_alone_in_the_order_given(checkpoint, head, sentences):
    queries = [sentences[i // 8].split()[i % 3] for i in range(24)]
    found = Reranker(checkpoint, head, batch_tokens=70).score(queries, sentences)
    assert found.dtype == np.float32
    for query, text, score in zip(queries, sentences, found, strict=True):
        ids = checkpoint.tokenizer.encode([query, text])
        packed = pack([join(ids[0], ids[1], checkpoint.tokenizer, checkpoint.max_tokens)])
        with torch.no_grad():
            expected = checkpoint.encoder(packed)[0] @ head.linear.weight[0] + head.linear.bias[0]
        assert score == pytest.approx(float(expected), abs=1e-5)


def test_passages_are_ranked_best_first_and_equal_ones_as_given(checkpoint, head, sentences):
    reranker = Reranker(checkpoint, head)
    texts = [*sentences[:5], sentences[2]]
    order, scores = reranker.rank("blood", texts)
    assert sorted(order) == list(range(6))
    assert (np.diff(scores) <= 0).all()
    assert scores[order == 2] == scores[order == 5]
    assert np.flatnonzero(order == 2) < np.flatnonzero(order == 5)


def test_no_pairs_give_no_scores_and_uneven_ones_are_refused(checkpoint, head):
    reranker = Reranker(checkpoint, head)
    assert reranker.score([], []).shape == (0,)
    with pytest.raises(ValueError, match="1 queries and 0 passages"):
        reranker.score(["a"], [])


def test_training_further_changes_no_scores(checkpoint, head, sentences):
    reranker = Reranker(checkpoint, head)
    before = reranker.score(sentences[:2], sentences[2:4])
    with torch.no_grad():
        head.linear.weight.zero_()
        checkpoint.encoder.layers[0].mlp.up.weight.zero_()
    assert (reranker.score(sentences[:2], sentences[2:4]) == before).all()


def test_the_score_that_training_left_is_used_rerankings_before_props(checkpoint, tiny_data, tmp_path):
    for kind, config in (("prop", PropConfig()), ("reranking", RerankingConfig())):
        objective = build_objective(config, tiny_data, checkpoint, seed=len(kind))
        save_parts(objective, kind, tmp_path)
        checkpoint.parts[kind] = tmp_path / "objectives" / f"{kind}.safetensors"
        if kind == "prop":
            assert torch.equal(load_score_head(checkpoint).linear.weight, objective.score.linear.weight)
    with torch.no_grad():
        objective.score.linear.weight.add_(1)
    save_parts(objective, "reranking", tmp_path)
    assert torch.equal(load_score_head(checkpoint).linear.weight, objective.score.linear.weight)


def test_a_model_without_a_score_and_a_damaged_one_are_named(checkpoint, tmp_path):
    with pytest.raises(ModelError, match="tiny has nothing to score pairs with"):
        Reranker(checkpoint)
    path = tmp_path / "prop.safetensors"
    path.write_bytes(b"nothing")
    checkpoint.parts["prop"] = path
    with pytest.raises(ModelError, match="is damaged or of another model"):
        Reranker(checkpoint)
