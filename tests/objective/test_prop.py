from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.prop import check
from torch.nn import functional as F

from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import CorpusError
from corpusmith.model.packed import pack
from corpusmith.objective.config import PropConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.prop import Prop
from corpusmith.objective.statistics import word_keys
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(data: TrainingData | None = None, checkpoint=None, **options) -> Prop:
        return Prop(PropConfig(**options), data or tiny_data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def split(batch, tokenizer) -> list[tuple[list[int], list[int]]]:
    """Words and passage of each sequence, checked for their form."""
    found = []
    bounds = batch.inputs.joined.packed.cu_seqlens.tolist()
    for start, stop in pairwise(bounds):
        ids = batch.inputs.joined.packed.ids[start:stop].tolist()
        assert (ids[0], ids[-1]) == (tokenizer.cls, tokenizer.sep)
        border = ids.index(tokenizer.sep)
        found.append((ids[1:border], ids[border + 1 : -1]))
    return found


def unmasked(batch) -> torch.Tensor:
    """The batch's ids with hidden tokens put back."""
    ids = batch.inputs.joined.packed.ids.clone()
    ids[batch.inputs.joined.places] = batch.inputs.joined.targets
    return ids


def test_two_sequences_a_passage_that_differ_in_their_words_alone(make, tiny_data):
    objective = make()
    examples = [5, 0, 17]
    batch = objective.collate(examples, np.random.default_rng(0))
    found = split(batch, objective.tokenizer)
    assert len(found) == 6
    assert batch.lengths.tolist() == [len(words) + len(passage) + 3 for words, passage in found]
    for (_, first), (_, second) in zip(found[::2], found[1::2], strict=True):
        assert first == second
    whole = replace(batch.inputs.joined.packed, ids=unmasked(batch))
    restored = replace(batch, inputs=replace(batch.inputs, joined=replace(batch.inputs.joined, packed=whole)))
    for (words, _), (_, passage), example in zip(
        found, split(restored, objective.tokenizer), np.repeat(examples, 2), strict=True
    ):
        room = objective.max_tokens - 3 - len(words)
        expected = tiny_data.passages[example].tolist()
        assert passage == expected[: len(passage)]
        assert len(passage) == len(expected) or len(passage) <= room
        assert words


def test_only_tokens_of_the_passage_are_hidden(make):
    objective = make(masking_rate=0.5, mask_share=1.0, random_share=0.0)
    batch = objective.collate(range(24), np.random.default_rng(0))
    for words, passage in split(batch, objective.tokenizer):
        assert objective.tokenizer.mask not in words
        assert passage.count(objective.tokenizer.mask) == round(0.5 * len(passage))


def test_the_first_set_is_the_likelier_one_under_the_smoothed_unigram_model(make, tiny_data, tiny_tokenizer):
    objective = make()
    masking = objective.masking

    def keys_of(ids: np.ndarray) -> np.ndarray:
        starts, keys = word_keys(ids, np.zeros_like(ids), masking.is_word_start, masking.is_ordinary)
        assert len(starts) == len(keys)
        return keys[~objective.words.is_common(keys)]

    corpus = np.concatenate([keys_of(tiny_data.passages[row].astype(np.int64)) for row in range(24)])
    smoothing = len(corpus) / 24
    differ = 0
    for row in range(24):
        passage = tiny_data.passages[row].astype(np.int64)
        document = keys_of(passage)
        sets = objective.draw_sets(passage, np.random.default_rng(row))
        likelihoods = []
        for words in (keys_of(sets.likelier), keys_of(sets.other)):
            p = [
                ((document == word).sum() + smoothing * (corpus == word).mean()) / (len(document) + smoothing)
                for word in words
            ]
            assert all(word in corpus for word in words)
            likelihoods.append(float(np.log(p).sum()))
        assert likelihoods[0] >= likelihoods[1] - 1e-9
        assert sets.differ == (likelihoods[0] > likelihoods[1] + 1e-9)
        differ += sets.differ
    assert differ > 18


def test_words_come_from_the_passage_and_the_corpus_in_the_shares_that_smoothing_gives(make, tiny_data):
    objective = make(set_length=50.0, smoothing=2.0)
    passage = tiny_data.passages[3].astype(np.int64)
    _, keys = word_keys(passage, np.zeros_like(passage), objective.masking.is_word_start, objective.masking.is_ordinary)
    keys = keys[~objective.words.is_common(keys)]
    drawn = []
    for seed in range(100):
        sets = objective.draw_sets(passage, np.random.default_rng(seed))
        for ids in (sets.likelier, sets.other):
            found = word_keys(ids, np.zeros_like(ids), objective.masking.is_word_start, objective.masking.is_ordinary)
            drawn.append(found[1])
    assert np.mean([len(words) for words in drawn]) == pytest.approx(50, abs=1)
    drawn = np.concatenate(drawn)
    corpus, m = objective.words, objective.smoothing
    expected = (len(keys) + m * sum(corpus.occurrences[np.isin(corpus.keys, keys)]) / corpus.total) / (len(keys) + m)
    assert np.isin(drawn, keys).mean() == pytest.approx(expected, abs=0.02)
    assert not corpus.is_common(drawn).any()


def test_common_words_are_in_no_set(make, tiny_tokenizer):
    objective = make()
    the = int(tiny_tokenizer.encode(["the"])[0][0])
    batch = objective.collate(range(24), np.random.default_rng(0))
    assert the in unmasked(batch)
    assert all(the not in words for words, _ in split(batch, tiny_tokenizer))


def test_collating_is_deterministic_and_may_be_done_in_parts(make):
    objective = make()
    examples = [3, 1, 15, 8, 20]
    first, second = (objective.collate(examples, np.random.default_rng(9)) for _ in range(2))
    assert torch.equal(first.inputs.joined.packed.ids, second.inputs.joined.packed.ids)
    assert torch.equal(first.inputs.joined.places, second.inputs.joined.places)
    rng = np.random.default_rng(9)
    parts = [objective.collate(part, rng) for part in (examples[:2], examples[2:])]
    assert torch.equal(torch.cat([p.inputs.joined.packed.ids for p in parts]), first.inputs.joined.packed.ids)
    assert torch.equal(torch.cat([p.inputs.differ for p in parts]), first.inputs.differ)


def reference(objective, encoder, batch) -> torch.Tensor:
    """The formulas of the module, one sequence at a time."""
    ids = batch.inputs.joined.packed.ids.numpy()
    bounds = batch.inputs.joined.packed.cu_seqlens.tolist()
    states = [encoder(pack([ids[start:stop]])) for start, stop in pairwise(bounds)]
    u, c = objective.score.linear.weight[0], objective.score.linear.bias[0]
    total = torch.zeros(())
    size = len(states) // 2
    for number in range(size):
        likelier, other = (states[2 * number + i][0] @ u + c for i in (0, 1))
        if batch.inputs.differ[number]:
            total = total + torch.clamp(objective.config.margin - likelier + other, min=0) / size
    rows = torch.cat(states)[batch.inputs.joined.places]
    logits = objective.head(rows, encoder.embeddings.tokens.weight)
    expected = 2 * objective.config.masking_rate * objective.mean_tokens * size
    return total + F.cross_entropy(logits, batch.inputs.joined.targets, reduction="sum") / expected


def test_loss_and_gradients_are_those_of_the_formulas(make, tiny_checkpoint):
    found = []
    for compute in (lambda o, e, b: o.loss(e, b).total, reference):
        checkpoint = tiny_checkpoint()
        objective = make(checkpoint=checkpoint, margin=0.3)
        batch = objective.collate([0, 4, 9, 11], np.random.default_rng(2))
        total = compute(objective, checkpoint.encoder, batch)
        total.backward()
        parameters = [*checkpoint.encoder.parameters(), *objective.parameters()]
        found.append((total.detach(), [p.grad for p in parameters if p.grad is not None]))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert len(found[0][1]) == len(found[1][1])
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_a_batch_in_parts_has_the_loss_of_the_whole(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    whole = objective.loss(encoder, objective.collate(range(9), np.random.default_rng(4)))
    rng = np.random.default_rng(4)
    parts = [objective.loss(encoder, objective.collate(part, rng)) for part in (range(2), range(2, 9))]
    assert sum(part.weight for part in parts) == whole.weight == 9
    total = sum(part.total * part.weight for part in parts) / 9
    torch.testing.assert_close(total, whole.total)


def test_passages_of_common_words_alone_teach_no_preference(make, tiny_checkpoint):
    texts = np.full((12, 3), 20, dtype=np.uint16)
    data = TrainingData(TokenShards(texts.reshape(-1), np.arange(0, 37, 3)), np.arange(12), np.arange(12))
    objective, encoder = make(data=data), tiny_checkpoint().encoder
    batch = objective.collate(range(12), np.random.default_rng(0))
    loss = objective.loss(encoder, batch)
    assert loss.parts["words"] == 0
    assert loss.parts["language"] > 0


@pytest.mark.parametrize("lengths", [[1], [1, 200], [200]])
def test_the_shortest_and_the_longest_passages_fit(make, tiny_checkpoint, lengths):
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    shards = TokenShards(rng.integers(5, 90, offsets[-1]).astype(np.uint16), offsets)
    data = TrainingData(shards, np.arange(len(lengths)), np.arange(len(lengths)))
    objective, encoder = make(data=data, set_length=20.0), tiny_checkpoint().encoder
    for seed in range(5):
        batch = objective.collate(range(len(lengths)), np.random.default_rng(seed))
        assert batch.lengths.max() <= objective.max_tokens
        assert all(passage for _, passage in split(batch, objective.tokenizer))
        assert torch.isfinite(objective.loss(encoder, batch).total)


def test_no_passage_at_all_is_one_clear_sentence(make, tiny_data):
    with pytest.raises(CorpusError, match="no passage to train on"):
        make(data=TrainingData(tiny_data.passages, np.array([], dtype=np.int64), tiny_data.documents))


def test_cost_counts_both_heads(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    width, vocabulary = 32, encoder.config.vocabulary_size
    named = len(batch.inputs.joined.targets)
    forward = encoder.flops(batch.lengths.tolist()) + 2 * named * width * (width + vocabulary) + 2 * width * 6
    assert objective.flops(encoder, batch) == pytest.approx(3 * forward)


def test_training_teaches_which_words_represent_a_passage(make, tiny_checkpoint, tmp_path):
    """Passages are of one of two topics of four words each; a set may have words of both."""
    rng, checkpoint = np.random.default_rng(0), tiny_checkpoint()
    texts = 10 + 4 * rng.integers(0, 2, (60, 1)) + rng.integers(0, 4, (60, 10))
    shards = TokenShards(texts.reshape(-1).astype(np.uint16), np.arange(0, 601, 10))
    data = TrainingData(shards, np.arange(60), np.arange(60))
    objective = make(data=data, checkpoint=checkpoint, common_share=1.0)
    config = TrainingConfig(
        learning_rate=1e-2, fresh_learning_rate=1e-2, batch_tokens=600, max_epochs=10**6, precision="float32"
    )
    batch = objective.collate(np.tile(np.arange(60), 4), np.random.default_rng(77))

    def loss() -> dict[str, float]:
        with torch.no_grad():
            return objective.loss(checkpoint.encoder, batch).parts

    before = loss()
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=25_000), tmp_path, seed=0)
    after = loss()
    assert before["accuracy"] < 0.6
    assert after["accuracy"] > 0.7
    assert after["words"] < 0.9 * before["words"]
    assert after["language"] < 0.8 * before["language"]
    found = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert found["holds"]
    assert found["accuracy"] > found["accuracy_with_another_passage"]
