from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.bag_of_words import check
from pydantic import ValidationError

from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.objective.bag_of_words import BagOfWords, bags_of
from corpusmith.objective.config import BagOfWordsConfig
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def objective(tiny_checkpoint, tiny_data) -> BagOfWords:
    return BagOfWords(BagOfWordsConfig(), tiny_data, tiny_checkpoint(), seed=0)


def plain_loss(objective, encoder, examples, seed) -> torch.Tensor:
    """The formula of the module, one passage at a time."""
    originals = objective.sequences(examples)
    packed = objective.collate(examples, np.random.default_rng(seed)).inputs.encoder.packed
    is_ordinary, embedding = objective.masking.is_ordinary, encoder.embeddings.tokens.weight
    batch = objective.collate(examples, np.random.default_rng(seed))
    is_hidden = torch.zeros(len(packed.ids), dtype=torch.bool)
    is_hidden[batch.inputs.encoder.places] = True
    bounds, words = packed.cu_seqlens.tolist(), sum(int(is_ordinary[ids].sum()) for ids in originals)
    named = bag = torch.zeros(())
    for number, original in enumerate(originals):
        start, stop = bounds[number], bounds[number + 1]
        one = pack([packed.ids[start:stop].numpy()])
        hidden = encoder(one)
        of_tokens = objective.head(hidden, embedding).log_softmax(dim=1)
        of_vector = objective.head(pool(hidden, one, objective.pooling), embedding).log_softmax(dim=1)[0]
        for place, token in enumerate(original.tolist()):
            if is_hidden[start + place]:
                named = named - of_tokens[place, token]
        for token in {token for token in original.tolist() if is_ordinary[token]}:
            bag = bag - of_vector[token]
    return named / (objective.masking.config.masking_rate * words) + bag / words


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_loss_and_gradients_are_those_of_the_formula(tiny_checkpoint, tiny_data, pooling):
    checkpoint = tiny_checkpoint(pooling=pooling)
    objective, encoder = BagOfWords(BagOfWordsConfig(), tiny_data, checkpoint, seed=0), checkpoint.encoder
    examples, parameters = [3, 9, 17, 20], [*checkpoint.encoder.parameters(), *objective.parameters()]
    loss = objective.loss(encoder, objective.collate(examples, np.random.default_rng(4)))
    expected = plain_loss(objective, encoder, examples, seed=4)
    torch.testing.assert_close(loss.total, expected)
    assert loss.weight == sum(len(tiny_data.passages[row]) for row in examples)
    assert sum(loss.parts.values()) == pytest.approx(float(expected.detach()), rel=1e-5)
    found = torch.autograd.grad(loss.total, parameters, allow_unused=True)
    for one, other in zip(found, torch.autograd.grad(expected, parameters, allow_unused=True), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_bags_hold_each_ordinary_token_of_a_passage_once(objective, tiny_data):
    bags = objective.collate([4, 11], np.random.default_rng(0)).inputs.bags
    first, second = bags.tokens.split(bags.counts.tolist())
    assert first.tolist() == sorted(set(tiny_data.passages[4].tolist()))
    assert second.tolist() == sorted(set(tiny_data.passages[11].tolist()))
    assert bags.lengths.tolist() == [len(tiny_data.passages[4]), len(tiny_data.passages[11])]


def test_passages_of_special_tokens_only_have_no_bag():
    is_ordinary = np.array([False, False, True, True])
    bags = bags_of(np.array([0, 1, 0, 3, 3, 2, 1, 0, 1]), np.array([2, 5, 2]), is_ordinary)
    assert (bags.passages.tolist(), bags.tokens.tolist()) == ([1], [2, 3])
    assert (bags.counts.tolist(), bags.lengths.tolist()) == ([2], [3])


def test_there_are_no_parameters_beside_the_heads(objective):
    assert all(name.startswith("head.") for name, _ in objective.named_parameters())
    assert objective.parts() == {}


def test_cost_counts_the_head_on_hidden_tokens_and_vectors(objective, tiny_checkpoint):
    encoder = tiny_checkpoint().encoder
    batch = objective.collate(range(5), np.random.default_rng(0))
    width, vocabulary = encoder.config.hidden_size, encoder.config.vocabulary_size
    head = 2 * (len(batch.inputs.encoder.targets) + 5) * width * (width + vocabulary)
    assert objective.flops(encoder, batch) == pytest.approx(3 * (encoder.flops(batch.lengths.tolist()) + head))


def test_after_training_a_vector_names_its_own_passages_words_and_not_anothers(tiny_checkpoint, tiny_data, tmp_path):
    checkpoint = tiny_checkpoint()
    objective = BagOfWords(BagOfWordsConfig(), tiny_data, checkpoint, seed=0)
    before = check(objective, checkpoint.encoder, np.random.default_rng(0))
    rates = {"learning_rate": 1e-2, "fresh_learning_rate": 1e-2}
    config = TrainingConfig(batch_tokens=300, max_epochs=10**6, precision="float32", **rates)
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=30_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert not before["holds"]
    assert after["holds"]
    assert after["named_by_its_own"] > 0.4


def test_options_out_of_range_are_refused():
    with pytest.raises(ValidationError):
        BagOfWordsConfig(masking_rate=1.0)
