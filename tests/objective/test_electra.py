from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.objective import dense
from torch.nn import functional as F

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


def test_the_generator_has_the_share_of_the_encoders_width_that_is_asked_for(make):
    assert make(generator_width=0.5).generator.project.weight.shape == (16, 32)
    assert make(generator_width=0.01).generator.project.weight.shape == (16, 32)
    assert make(generator_width=1.0).generator.project.weight.shape == (32, 32)


def test_the_generator_is_kept_but_has_no_embedding_of_its_own(make, tiny_checkpoint):
    objective, vocabulary = make(), tiny_checkpoint().encoder.config.vocabulary_size
    parts = objective.parts()
    assert {"generator.head.dense.weight", "generator.layers.0.mlp.up.weight", "detector.output.weight"} <= set(parts)
    assert all(tensor.ndim < 2 or vocabulary not in tensor.shape for tensor in parts.values())


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


def test_after_training_replaced_tokens_are_found(tiny_checkpoint, tiny_data, tmp_path):
    from benchmarks.claims.mechanics.electra import check

    checkpoint = tiny_checkpoint()
    objective = Electra(ElectraConfig(masking_rate=0.3), tiny_data, checkpoint, seed=0)
    before = check(objective, checkpoint.encoder, np.random.default_rng(0))
    config = TrainingConfig(
        learning_rate=3e-3, fresh_learning_rate=3e-3, batch_tokens=300, max_epochs=10**6, precision="float32"
    )
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=20_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert not before["holds"]
    assert after["holds"]
    assert after["f1"] > 0.6
