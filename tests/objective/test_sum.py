from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from corpusmith.errors import CorpusError
from corpusmith.model.packed import pack
from corpusmith.objective.config import (
    ContrastiveConfig,
    MaskedLanguageConfig,
    MatryoshkaConfig,
    RetroMAEConfig,
    SumConfig,
    TermConfig,
)
from corpusmith.objective.registry import build_objective, save_parts
from corpusmith.objective.sum import Sum
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.checkpoint import TrainingState
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train
from corpusmith.training.optimiser import build_optimiser, named_parameters


def summed(*objectives, weights=()) -> SumConfig:
    weights = weights or (1.0,) * len(objectives)
    return SumConfig(terms=tuple(TermConfig(objective=o, weight=w) for o, w in zip(objectives, weights, strict=True)))


WORDS_AND_PAIRS = summed(MaskedLanguageConfig(), ContrastiveConfig(), weights=(1.0, 0.5))
TWICE_WORDS = summed(MaskedLanguageConfig(), RetroMAEConfig(), weights=(2.0, 0.25))


@pytest.fixture
def build(tiny_checkpoint, tiny_data):
    def make(config: SumConfig, data=tiny_data, **choices) -> tuple[Sum, object]:
        checkpoint = tiny_checkpoint(**choices)
        return build_objective(config, data, checkpoint, seed=0), checkpoint

    return make


def gradients(encoder, objective) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in named_parameters(encoder, objective).items():
        found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        parameter.grad = None
    return found


def plain_masked_language_loss(encoder, head, inputs) -> torch.Tensor:
    bounds = inputs.packed.cu_seqlens.tolist()
    states = [encoder(pack([inputs.packed.ids[a:b].numpy()])) for a, b in pairwise(bounds)]
    logits = head(torch.cat(states)[inputs.places], encoder.embeddings.tokens.weight)
    return F.cross_entropy(logits, inputs.targets)


def plain_info_nce(encoder, inputs) -> torch.Tensor:
    (packed,) = inputs.pieces
    bounds = packed.cu_seqlens.tolist()
    texts = [packed.ids[a:b].numpy() for a, b in pairwise(bounds)]
    vectors = torch.stack([F.normalize(encoder(pack([text])).mean(dim=0), dim=0) for text in texts])
    size, losses = len(inputs.excluded), []
    for query in range(size):
        scores = vectors[size:] @ vectors[query] / 0.05
        losses.append(-scores[query] + scores[~inputs.excluded[query]].logsumexp(dim=0))
    return torch.stack(losses).mean()


def test_loss_and_gradients_are_the_weighted_sum_of_plain_ones(build):
    objective, checkpoint = build(WORDS_AND_PAIRS)
    encoder = checkpoint.encoder
    batch = objective.collate(range(6), np.random.default_rng(0))
    loss = objective.loss(encoder, batch)
    loss.total.backward()
    found = gradients(encoder, objective)
    words = plain_masked_language_loss(encoder, objective.members[0].head, batch.inputs[0].inputs)
    pairs = plain_info_nce(encoder, batch.inputs[1].inputs)
    expected = words + 0.5 * pairs
    expected.backward()
    assert float(loss.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert loss.parts["masked_language"] == pytest.approx(float(words.detach()), rel=1e-5)
    assert loss.parts["contrastive"] == pytest.approx(float(pairs.detach()), rel=1e-5)
    assert "contrastive.accuracy" in loss.parts
    assert loss.weight == len(batch.inputs[0].inputs.targets)
    for name, gradient in gradients(encoder, objective).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3)


def test_terms_that_train_on_the_same_passages_take_the_same_ones(build):
    objective, _ = build(TWICE_WORDS)
    first, second = objective.collate([3, 1, 15], np.random.default_rng(0)).inputs
    assert first.lengths.tolist() == second.lengths.tolist()
    restored = first.inputs.packed.ids.clone()
    restored[first.inputs.places] = first.inputs.targets
    assert torch.equal(restored, second.inputs.original.ids)
    assert not torch.equal(first.inputs.packed.ids, second.inputs.encoder.packed.ids)  # each hides words of its own


def test_a_wrapped_term_takes_the_same_passages_and_a_term_on_pairs_its_own(build):
    objective, _ = build(summed(MaskedLanguageConfig(), MatryoshkaConfig(objective=RetroMAEConfig())))
    words, wrapped = objective.collate([4, 9], np.random.default_rng(0)).inputs
    assert words.lengths.tolist() == wrapped.lengths.tolist()
    assert build(WORDS_AND_PAIRS)[0].follows == [True, False]


def test_a_term_with_other_examples_draws_about_as_many_tokens_each_example_at_most_once(build):
    objective, _ = build(WORDS_AND_PAIRS)
    sizes = []
    for seed in range(40):
        words, pairs = objective.collate(range(seed % 4, 12), np.random.default_rng(seed)).inputs
        sizes.append(pairs.tokens / words.tokens)
        queries = [part.numpy().tobytes() for part in pairs.inputs.pieces[0].ids.split(pairs.lengths.tolist())]
        assert len(set(queries[: pairs.borders[0]])) == pairs.borders[0]
    assert 0.7 < np.mean(sizes) < 1.1


def test_one_passage_still_gives_every_term_an_example(build):
    objective, checkpoint = build(WORDS_AND_PAIRS)
    batch = objective.collate([0], np.random.default_rng(0))
    assert all(len(part.lengths) for part in batch.inputs)
    assert torch.isfinite(objective.loss(checkpoint.encoder, batch).total)


def test_collating_is_deterministic_and_a_sum_is_never_cut(build):
    objective, checkpoint = build(WORDS_AND_PAIRS)
    first, second = (objective.collate([3, 1, 15], np.random.default_rng(5)) for _ in range(2))
    assert first.lengths.tolist() == second.lengths.tolist()
    losses = [objective.loss(checkpoint.encoder, batch).total.detach() for batch in (first, second)]
    assert torch.equal(*losses)
    assert not objective.divisible


def test_a_batch_tells_its_terms_apart_and_costs_what_its_lengths_say(build):
    objective, checkpoint = build(WORDS_AND_PAIRS)
    batch = objective.collate(range(8), np.random.default_rng(0))
    words, pairs = batch.inputs
    assert batch.borders == (len(words.lengths), len(words.lengths) + pairs.borders[0])
    assert batch.tokens == words.tokens + pairs.tokens
    assert np.array_equal(objective.lengths(), 2 * objective.members[0].lengths())
    apart = sum(m.flops(checkpoint.encoder, part) for m, part in zip(objective.members, batch.inputs, strict=True))
    assert objective.flops(checkpoint.encoder, batch) == pytest.approx(apart)


def test_terms_share_one_head_which_is_held_and_trained_once(build):
    objective, checkpoint = build(TWICE_WORDS)
    first, second = objective.members
    assert first.head is second.head
    assert checkpoint.head is None  # the caller's checkpoint is left as it was
    names = [name for name in objective.state_dict() if "head." in name]
    assert len(names) == len(first.head.state_dict())
    tensors = list(TrainingState(checkpoint.encoder, objective, None, {}).weights().values())
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
    fresh = [id(parameter) for parameter in objective.fresh_parameters()]
    assert len(set(fresh)) == len(fresh)
    assert set(fresh) == {id(parameter) for parameter in objective.parameters()}
    build_optimiser(checkpoint.encoder, objective, TrainingConfig())  # refuses a parameter that stands twice


def test_what_terms_keep_is_found_again_alone_and_in_another_sum(build, tiny_checkpoint, tiny_data, tmp_path):
    objective, _ = build(TWICE_WORDS)
    for parameter in objective.parameters():
        parameter.data += 1
    save_parts(objective, "sum", tmp_path)
    kept = {path.stem: path for path in (tmp_path / "objectives").iterdir()}
    assert set(kept) == {"retromae", "head"}
    assert load_file(kept["head"]).keys() == objective.members[0].head.state_dict().keys()
    wanted = objective.members[1].decoder.state_dict()
    parts = {"parts": {"retromae": kept["retromae"]}}
    alone = build_objective(RetroMAEConfig(), tiny_data, tiny_checkpoint(**parts), seed=5)
    inside, _ = build(summed(ContrastiveConfig(), MatryoshkaConfig(objective=RetroMAEConfig())), **parts)
    for found in (alone, inside.members[1].inner):
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.decoder.state_dict().items())
        assert found.continued
    decoder = {id(parameter) for parameter in inside.members[1].inner.decoder.parameters()}
    assert not decoder & {id(parameter) for parameter in inside.fresh_parameters()}


def test_progress_and_steps_reach_every_term_and_the_highest_dropout_counts(build):
    objective, checkpoint = build(summed(ContrastiveConfig(), MatryoshkaConfig(objective=RetroMAEConfig())))
    objective.progress = 0.25
    inner = objective.members[1].inner
    assert (objective.progress, objective.members[0].progress, inner.progress) == (0.25, 0.25, 0.25)
    steps = []
    inner.after_step = steps.append
    objective.after_step(checkpoint.encoder)
    assert steps == [checkpoint.encoder]
    assert (objective.learning_rate, objective.sorted_by_length) == (2e-5, False)  # the lead's


def test_dropout_is_the_highest_of_the_terms(build, monkeypatch):
    monkeypatch.setattr("corpusmith.objective.contrastive.Contrastive.dropout", 0.1)
    assert build(WORDS_AND_PAIRS)[0].dropout == 0.1
    assert build(TWICE_WORDS)[0].dropout == 0.0


@pytest.mark.parametrize("config", [WORDS_AND_PAIRS, TWICE_WORDS], ids=["words and pairs", "twice words"])
def test_a_short_training_lowers_every_terms_loss(build, tmp_path, config):
    objective, checkpoint = build(config)
    records = []
    settings = TrainingConfig(
        learning_rate=3e-3, fresh_learning_rate=3e-3, batch_tokens=600, evaluations=0, max_epochs=100
    )
    budget = BudgetConfig(tokens=20_000)
    train(checkpoint.encoder, objective, settings, budget, tmp_path, seed=0, report=records.append)
    for kind in objective.kinds:
        losses = [record.parts[kind] for record in records]
        assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_check_of_a_sum_is_that_of_its_terms(build):
    from benchmarks.claims.mechanics.sum import check

    config = summed(MatryoshkaConfig(objective=RetroMAEConfig(), dimensions=(32, 4)), ContrastiveConfig())
    objective, checkpoint = build(config)
    found = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert found["matryoshka.leading"] > 0
    assert found["contrastive.weight"] == 1.0
    assert found["holds"] == all(value for name, value in found.items() if name.endswith(".holds"))


def test_a_sum_with_pairs_needs_them(build, tiny_data):
    assert WORDS_AND_PAIRS.needs() == {"pairs"}
    assert TWICE_WORDS.needs() == frozenset()
    with pytest.raises(CorpusError, match="pairs"):
        build(WORDS_AND_PAIRS, replace(tiny_data, pairs=None))


@pytest.mark.parametrize(
    "terms",
    [
        [{"objective": {"kind": "retromae"}}],
        [{"objective": {"kind": "retromae"}}, {"objective": {"kind": "retromae"}}],
        [{"objective": {"kind": "retromae"}}, {"objective": {"kind": "matryoshka", "objective": {"kind": "retromae"}}}],
        [{"objective": {"kind": "retromae"}}, {"objective": {"kind": "sum"}}],
        [{"objective": {"kind": "retromae"}}, {"objective": {"kind": "contrastive"}, "weight": 0}],
    ],
)
def test_sums_of_one_of_the_same_of_sums_and_without_weight_are_refused(terms):
    with pytest.raises(ValueError, match=r"at least 2|twice|tag|greater than 0"):
        SumConfig.model_validate({"terms": terms})


def test_a_recipe_knows_that_a_sum_rebuilds_texts_if_a_term_does():
    from corpusmith.errors import RecipeError
    from corpusmith.recipe import parse_recipe

    stages = [{"objective": {"kind": "contrastive"}}, {"objective": WORDS_AND_PAIRS.model_dump()}]
    parse_recipe({"stages": stages}, "test")
    with pytest.raises(RecipeError, match=r"stage 2 \(sum\) rebuilds texts"):
        parse_recipe({"stages": stages, "pairs": {"source": "labels"}}, "test")
    wrapped = {"kind": "starbucks", "objective": {"kind": "retromae"}}
    with pytest.raises(RecipeError, match=r"stage 2 \(starbucks\) rebuilds texts"):
        parse_recipe({"stages": [stages[0], {"objective": wrapped}], "pairs": {"source": "labels"}}, "test")
