from __future__ import annotations

import numpy as np
import pytest
import torch
from benchmarks.claims.mechanics.simlm import check
from pydantic import ValidationError
from tests.objective import dense

from corpusmith.objective.config import SimLMConfig
from corpusmith.objective.simlm import SimLM
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(checkpoint=None, **options) -> SimLM:
        return SimLM(SimLMConfig(**options), tiny_data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def test_loss_and_gradients_are_those_of_the_formulas(make, tiny_checkpoint):
    """The words that are drawn are the generator's, which the tests of ELECTRA hold against its formulas."""
    objective, encoder = make(generator_weight=0.7), tiny_checkpoint().encoder
    batch = objective.collate([3, 11, 7], np.random.default_rng(0))
    inputs, masked = batch.inputs, batch.inputs.encoder.masked
    read, given = objective.changed(encoder, inputs.encoder), objective.changed(encoder, inputs.decoder)
    originals = dense.by_token(read, inputs.places, inputs.targets)
    hidden_targets = dense.by_token(read, masked.places, masked.targets)
    states = objective.generator(encoder, masked.packed)
    total = torch.zeros(())
    count = len(inputs.targets)
    for ids, original, corrupted, targets, filled in dense.passages(read, originals, given.ids, hidden_targets, states):
        hidden = dense.encoded(encoder, ids)
        restored = dense.decoded(objective.decoder, encoder, hidden.mean(0), corrupted)
        for found in (hidden, restored):
            asked = original >= 0
            total = (
                total
                + dense.negative_log_likelihoods(objective.head, encoder, found[asked], original[asked]).sum() / count
            )
        asked = targets >= 0
        total = (
            total
            + 0.7
            / (0.3 * count)
            * dense.negative_log_likelihoods(objective.generator.head, encoder, filled[asked], targets[asked]).sum()
        )
    dense.assert_same(objective, encoder, batch, total)
    assert objective.loss(encoder, batch).weight == count


def test_the_decoder_lacks_what_the_encoder_lacks_and_more(make):
    objective = make(masking_rate=0.2, decoder_masking_rate=0.6, whole_words=False)
    inputs = objective.collate(range(24), np.random.default_rng(0)).inputs
    of_encoder, of_decoder = (set(part.masked.places.tolist()) for part in (inputs.encoder, inputs.decoder))
    assert of_encoder < of_decoder
    assert len(of_encoder) / len(inputs.targets) == pytest.approx(0.2, abs=0.02)
    assert len(of_decoder) / len(inputs.targets) == pytest.approx(0.6, abs=0.02)


def test_encoder_and_decoder_get_words_of_their_own_and_no_mask_token(make, tiny_checkpoint):
    objective, encoder = make(decoder_masking_rate=0.3), tiny_checkpoint().encoder
    inputs = objective.collate(range(24), np.random.default_rng(0)).inputs
    assert torch.equal(inputs.encoder.masked.places, inputs.decoder.masked.places)
    read, given = (objective.changed(encoder, part).ids for part in (inputs.encoder, inputs.decoder))
    assert (inputs.encoder.masked.packed.ids == objective.tokenizer.mask).any()
    for ids in (read, given):
        assert not (ids == objective.tokenizer.mask).any()
    assert (read != given)[inputs.encoder.masked.places].float().mean() > 0.9


def test_the_loss_draws_the_words_that_changed_gives(make, tiny_checkpoint):
    objective, encoder = make(), tiny_checkpoint().encoder
    batch = objective.collate(range(6), np.random.default_rng(0))
    read = []
    real = encoder.forward
    encoder.forward = lambda packed: read.append(packed.ids) or real(packed)
    objective.loss(encoder, batch)
    assert torch.equal(read[0], objective.changed(encoder, batch.inputs.encoder).ids)


def test_cost_counts_encoder_decoder_generator_and_all_heads(make, tiny_checkpoint):
    objective, encoder = make(generator_width=0.5), tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    width, inner, small, vocabulary = 32, 64, 16, encoder.config.vocabulary_size
    tokens, squares = batch.lengths.sum(), (batch.lengths**2).sum()
    decoder = 2 * (2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * width * squares)
    layers = (
        2 * (2 * tokens * (4 * small**2 + 2 * small * inner / 2) + 4 * small * squares) + 2 * tokens * width * small
    )
    first, second = (
        2 * len(p.draws) * width * (small + vocabulary) for p in (batch.inputs.encoder, batch.inputs.decoder)
    )
    head = 2 * 2 * len(batch.inputs.targets) * width * (width + vocabulary)
    expected = 3 * (encoder.flops(batch.lengths.tolist()) + decoder + layers + first + head) + first + layers + second
    assert objective.flops(encoder, batch) == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong",
    [{"masking_rate": 0.6}, {"decoder_masking_rate": 1.0}, {"decoder_layers": 0}, {"generator_weight": 0}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        SimLMConfig(**wrong)


def test_all_hidden_tokens_stand_behind_the_mask_token_for_the_generator():
    assert (SimLMConfig().mask_share, SimLMConfig().random_share, SimLMConfig().whole_words) == (1.0, 0.0, True)


def test_after_training_a_passage_is_restored_from_its_own_vector(tiny_checkpoint, tiny_data, tmp_path):
    checkpoint = tiny_checkpoint()
    data = dense.documents_of_one_word(tiny_data, checkpoint.tokenizer)
    options = SimLMConfig(masking_rate=0.15, decoder_masking_rate=0.99)
    objective = SimLM(options, data, checkpoint, seed=0)
    assert not check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]
    config = TrainingConfig(
        learning_rate=1e-2, fresh_learning_rate=1e-2, batch_tokens=300, max_epochs=10**6, precision="float32"
    )
    train(checkpoint.encoder, objective, config, BudgetConfig(tokens=14_000), tmp_path, seed=0)
    after = check(objective, checkpoint.encoder, np.random.default_rng(0))
    assert after["holds"]
    assert after["mask_tokens"] == 0
    assert after["decoder_loss"] < 0.6 * after["decoder_loss_shuffled"]
