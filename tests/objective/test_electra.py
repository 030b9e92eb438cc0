from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.objective import dense
from torch.nn import functional as F

from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import CorpusError
from corpusmith.model.encoder import Encoder
from corpusmith.objective.config import ElectraConfig
from corpusmith.objective.electra import Electra
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(data=tiny_data, checkpoint=None, **options) -> Electra:
        return Electra(ElectraConfig(**options), data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def generated(objective: Electra, encoder: Encoder, ids: torch.Tensor) -> torch.Tensor:
    """States of the generator for one passage, `[L, G]`."""
    generator = objective.generator
    hidden = encoder.embeddings.tokens.weight[ids] @ generator.project.weight.T + generator.project.bias
    hidden = dense.norm(generator.norm, hidden + generator.positions.weight[: len(ids)])
    for layer in generator.layers:
        hidden = dense.fed(layer, dense.attended(layer, hidden))
    return hidden


def drawn(objective: Electra, encoder: Encoder, state: torch.Tensor, draw: float) -> int:
    """The first ordinary token at which the probability of those up to it exceeds the number drawn."""
    names = [
        dense.negative_log_likelihoods(objective.generator.head, encoder, state[None], torch.tensor([token]))
        for token in objective.masking.ordinary_ids
    ]
    probabilities = torch.cat(names).neg().double().exp()
    reached = 0.0
    for token, probability in zip(objective.masking.ordinary_ids, probabilities / probabilities.sum(), strict=True):
        reached += float(probability)
        if reached > draw:
            return int(token)
    raise AssertionError("probabilities do not sum to 1")


def test_loss_and_gradients_are_those_of_the_formulas(make, tiny_checkpoint):
    objective, encoder = make(masking_rate=0.4, detection_weight=7.0), tiny_checkpoint().encoder
    batch = objective.collate([3, 11], np.random.default_rng(0))
    inputs = batch.inputs
    masked = inputs.generator.masked
    draws = dense.by_token(masked.packed, masked.places, inputs.generator.draws)
    generator, detection = torch.zeros(()), torch.zeros(())
    for ids, original, draw in dense.passages(masked.packed, inputs.original.ids, draws):
        states, hidden = generated(objective, encoder, ids), draw >= 0
        generator = (
            generator
            + dense.negative_log_likelihoods(objective.generator.head, encoder, states[hidden], original[hidden]).sum()
        )
        changed = original.clone()
        for place in hidden.nonzero()[:, 0]:
            with torch.no_grad():
                changed[place] = drawn(objective, encoder, states[place], float(draw[place]))
        ordinary = torch.from_numpy(objective.masking.is_ordinary)[original]
        detector = objective.detector
        inner = F.gelu(dense.encoded(encoder, changed) @ detector.dense.weight.T + detector.dense.bias)
        logits = (inner @ detector.output.weight.T + detector.output.bias)[:, 0]
        probability = torch.where(changed != original, logits.sigmoid(), 1 - logits.sigmoid())
        detection = detection - probability[ordinary].log().sum()
    count = len(inputs.places)
    dense.assert_same(objective, encoder, batch, generator / (0.4 * count) + 7.0 * detection / count)
    assert objective.loss(encoder, batch).weight == count


def test_words_are_drawn_with_the_generators_probabilities(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    logits = torch.randn(1, encoder.config.vocabulary_size, generator=torch.Generator().manual_seed(1)) * 2
    many = (torch.arange(20_000) + 0.5) / 20_000
    found = objective.generator._draw(logits.expand(len(many), -1).clone(), many)
    shares = torch.bincount(found, minlength=logits.shape[1]) / len(many)
    allowed = torch.from_numpy(objective.masking.is_ordinary)
    expected = torch.where(allowed, logits[0], -torch.inf).softmax(0)
    torch.testing.assert_close(shares, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-24, 1.0])
def test_a_draw_at_the_edge_gives_an_ordinary_token_too(make, draw):
    objective = make()
    logits = torch.full((3, objective.tokenizer.size), -30.0)
    logits[:, objective.masking.ordinary_ids[40]] = 30.0
    words = objective.generator._draw(logits, torch.full((3,), draw))
    assert objective.masking.is_ordinary[words.numpy()].all()


def test_only_hidden_tokens_change_and_no_special_token_is_drawn(make, tiny_checkpoint):
    objective, encoder = make(masking_rate=0.5), tiny_checkpoint().encoder
    inputs = objective.collate(range(24), np.random.default_rng(0)).inputs
    states = objective.generator(encoder, inputs.generator.masked.packed)
    changed = objective.generator.fill_in(encoder, states, inputs.generator).ids
    places = inputs.generator.masked.places
    differs = changed != inputs.original.ids
    assert differs[places].float().mean() > 0.9
    differs[places] = False
    assert not differs.any()
    assert objective.masking.is_ordinary[changed[places].numpy()].all()


def test_nothing_flows_from_the_encoders_answers_into_the_generator(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    inputs = objective.collate(range(4), np.random.default_rng(0)).inputs
    states = objective.generator(encoder, inputs.generator.masked.packed)
    logits, _ = objective.detect(encoder, objective.generator.fill_in(encoder, states, inputs.generator), inputs)
    generator = [*objective.generator.parameters()]
    assert all(g is None for g in torch.autograd.grad(logits.sum(), generator, allow_unused=True))


def test_collating_is_deterministic_and_may_be_done_in_parts(make):
    objective, examples = make(), [3, 1, 15, 8, 20]
    first, second = (objective.collate(examples, np.random.default_rng(9)).inputs for _ in range(2))
    assert torch.equal(first.generator.draws, second.generator.draws)
    rng = np.random.default_rng(9)
    parts = [objective.collate(part, rng).inputs for part in (examples[:2], examples[2:])]
    assert torch.equal(torch.cat([p.generator.masked.packed.ids for p in parts]), first.generator.masked.packed.ids)
    assert torch.equal(torch.cat([p.generator.draws for p in parts]), first.generator.draws)


def test_the_generator_has_the_share_of_the_encoders_width_that_is_asked_for(make):
    assert make(generator_width=0.5).generator.project.weight.shape == (16, 32)
    assert make(generator_width=0.01).generator.project.weight.shape == (16, 32)
    assert make(generator_width=1.0).generator.project.weight.shape == (32, 32)


def test_the_generator_is_kept_and_is_fresh_but_has_no_embedding_of_its_own(make, tiny_checkpoint):
    objective, vocabulary = make(), tiny_checkpoint().encoder.config.vocabulary_size
    parts = objective.parts()
    assert {"generator.head.dense.weight", "generator.layers.0.mlp.up.weight", "detector.output.weight"} <= set(parts)
    assert all(tensor.ndim < 2 or vocabulary not in tensor.shape for tensor in parts.values())
    assert {id(p) for p in objective.fresh_parameters()} == {id(p) for p in objective.parameters()}


def test_passages_of_one_token_the_longest_and_a_single_one_can_be_trained_on(make, tiny_checkpoint, tiny_data):
    words = tiny_data.passages[0]
    lengths = [1, 60, 1]
    shards = TokenShards(np.resize(words, sum(lengths)), np.cumsum([0, *lengths]))
    objective = make(data=replace(tiny_data, passages=shards, rows=np.arange(3), documents=np.arange(3)))
    encoder = tiny_checkpoint().encoder
    for examples in ([0], [1], [0, 1, 2]):
        loss = objective.loss(encoder, objective.collate(examples, np.random.default_rng(0)))
        assert torch.isfinite(loss.total)
        assert loss.weight == sum(min(lengths[i], 30) for i in examples)


def test_a_passage_of_unknown_words_alone_has_no_weight(make, tiny_checkpoint, tiny_data):
    unknown = TokenShards(np.full(5, tiny_data.passages[0][0] * 0 + 1, dtype=np.uint16), np.array([0, 5]))
    objective = make(data=replace(tiny_data, passages=unknown, rows=np.arange(1)))
    loss = objective.loss(tiny_checkpoint().encoder, objective.collate([0], np.random.default_rng(0)))
    loss.total.backward()
    assert (loss.weight, float(loss.total.detach())) == (0, 0)


def test_no_passage_and_no_mask_token_are_one_clear_sentence(make, tiny_data, tiny_checkpoint, tiny_tokenizer):
    with pytest.raises(CorpusError, match="no passage to train on"):
        make(data=replace(tiny_data, rows=np.array([], dtype=np.int64)))


@pytest.mark.parametrize(
    "wrong", [{"generator_width": 0}, {"generator_width": 1.1}, {"detection_weight": 0}, {"random_share": 0.1}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        ElectraConfig(**wrong)


def test_cost_counts_encoder_generator_and_both_heads(make, tiny_checkpoint):
    objective, encoder = make(generator_width=0.5), tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    width, small, inner, vocabulary = 32, 16, 32, encoder.config.vocabulary_size
    tokens, squares, hidden = batch.lengths.sum(), (batch.lengths**2).sum(), len(batch.inputs.generator.draws)
    layers = 2 * (2 * tokens * (4 * small**2 + 2 * small * inner) + 4 * small * squares)
    head = 2 * hidden * width * (small + vocabulary)
    generator = 3 * (layers + 2 * tokens * width * small + head) + head
    detector = 3 * 2 * len(batch.inputs.places) * width * (width + 1)
    expected = 3 * encoder.flops(batch.lengths.tolist()) + generator + detector
    assert objective.flops(encoder, batch) == pytest.approx(expected)


def test_bf16_gives_nearly_the_same_loss(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(12), np.random.default_rng(0))
    exact = float(objective.loss(encoder, batch).total.detach())
    encoder.compute_dtype = torch.bfloat16
    assert float(objective.loss(encoder, batch).total.detach()) == pytest.approx(exact, rel=0.02)


def test_an_encoder_with_rotary_positions_is_trained_as_well(make, tiny_checkpoint):
    plain = tiny_checkpoint().encoder.config
    config = replace(plain, model_type="modernbert", rotary=True, norm_first=True, gated=True, type_vocabulary_size=1)
    checkpoint = tiny_checkpoint(encoder=Encoder(config))
    objective = make(checkpoint=checkpoint)
    objective.loss(checkpoint.encoder, objective.collate(range(4), np.random.default_rng(0))).total.backward()
    assert checkpoint.encoder.layers[0].attention.qkv.weight.grad.abs().sum() > 0
    assert objective.generator.layers[0].attention.qkv.weight.grad.abs().sum() > 0


def test_after_training_replaced_tokens_are_found(tiny_checkpoint, tiny_data, tmp_path):
    from benchmarks.claims.mechanics.electra import check

    checkpoint = tiny_checkpoint()
    objective = Electra(ElectraConfig(masking_rate=0.3), tiny_data, checkpoint, seed=0)
    before = check(objective, checkpoint.encoder, np.random.default_rng(0))
    config = TrainingConfig(
        learning_rate=1e-2, fresh_learning_rate=1e-2, batch_tokens=300, max_epochs=10**6, precision="float32"
    )
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=60_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert not before["holds"]
    assert after["holds"]
    assert after["f1"] > 0.6
