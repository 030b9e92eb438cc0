from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.objective import dense

from corpusmith.errors import ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.objective.config import (
    ContrastiveConfig,
    MaskedLanguageConfig,
    RetroMAEConfig,
    SubstructuresConfig,
)
from corpusmith.objective.masked_language import head_flops
from corpusmith.objective.registry import build_objective
from corpusmith.objective.substructures import Substructures
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.log import StepRecord
from corpusmith.training.loop import train


@pytest.fixture
def build(tiny_checkpoint, tiny_data):
    def make(config: SubstructuresConfig, layers=5, **changes) -> tuple[Substructures, object]:
        plain = tiny_checkpoint().encoder.config
        encoder = Encoder(replace(plain, layers=layers, **changes), torch.Generator().manual_seed(7))
        checkpoint = tiny_checkpoint(encoder=encoder)
        return build_objective(config, tiny_data, checkpoint, seed=0), checkpoint

    return make


def drawn(objective: Substructures, part: tuple[int, int], examples=range(5)):
    """A batch for the sub-model of so many layers, with so many of them fixed."""
    for seed in range(200):
        batch = objective.collate(examples, np.random.default_rng([seed, 3]))
        if (batch.inputs.layers, batch.inputs.frozen) == part:
            return batch
    raise AssertionError(f"{part} is never drawn")


def test_parts_are_drawn_evenly_in_the_first_share_of_the_steps_and_then_comes_the_whole(build):
    objective, _ = build(SubstructuresConfig(top_layers=2))
    parts = []
    for step in range(300):
        inputs = objective.collate([0], np.random.default_rng([3, step])).inputs
        parts.append((inputs.layers, inputs.frozen))
    assert set(parts) == {(2, 0), (4, 2), (5, 4)}
    assert min(parts.count(part) for part in set(parts)) > 70
    objective.progress = 0.125
    assert objective.inner.progress == 0.125
    inputs = objective.collate([0], np.random.default_rng([3, 1])).inputs
    assert (inputs.layers, inputs.frozen) == (5, 0)


def test_a_quarter_of_the_layers_learns_at_a_time_unless_told_otherwise(build):
    assert build(SubstructuresConfig(), layers=12)[0].borders == [0, 3, 6, 9, 12]
    assert build(SubstructuresConfig(), layers=2)[0].borders == [0, 1, 2]


@pytest.mark.parametrize("part", [(2, 0), (4, 2), (5, 4)])
def test_the_loss_is_that_of_the_lower_layers_and_only_the_upper_of_them_learn(build, part):
    objective, checkpoint = build(SubstructuresConfig(top_layers=2))
    encoder = checkpoint.encoder
    batch = drawn(objective, part)
    inputs = batch.inputs.inner
    loss = objective.loss(encoder, batch)
    small = Encoder(replace(encoder.config, layers=part[0]))
    small.load_state_dict({n: t for n, t in encoder.state_dict().items() if n in small.state_dict()})
    targets = dense.by_token(inputs.packed, inputs.places, inputs.targets)
    expected = torch.zeros(())
    for ids, target in dense.passages(inputs.packed, targets):
        hidden = target >= 0
        states = dense.encoded(small, ids)[hidden]
        expected = expected + dense.negative_log_likelihoods(objective.inner.head, small, states, target[hidden]).sum()
    expected = expected / len(inputs.targets)
    torch.testing.assert_close(loss.total, expected, atol=1e-4, rtol=1e-5)
    assert loss.parts["layers"] == part[0]
    loss.total.backward()
    assert encoder.token_embedding.weight.grad is not None  # through the head
    assert objective.inner.head.dense.weight.grad is not None
    expected.backward()
    for number, layer in enumerate(encoder.layers):
        learns = part[1] <= number < part[0]
        assert (layer.mlp.up.weight.grad is not None) == learns
        if learns:
            wanted = small.layers[number].mlp.up.weight.grad
            torch.testing.assert_close(layer.mlp.up.weight.grad, wanted, atol=1e-5, rtol=1e-3)
    assert (encoder.embeddings.positions.weight.grad is not None) == (part[1] == 0)


def test_all_parts_of_a_batch_are_for_the_same_sub_model(build):
    objective, _ = build(SubstructuresConfig(top_layers=1))
    assert objective.divisible
    for seed in range(5):
        whole = objective.collate([3, 1, 15], np.random.default_rng([seed, 7]))
        rng = np.random.default_rng([seed, 7])
        parts = [objective.collate(part, rng) for part in ([3], [1, 15])]
        assert {(part.inputs.layers, part.inputs.frozen) for part in parts} == {
            (whole.inputs.layers, whole.inputs.frozen)
        }
        assert torch.equal(torch.cat([p.inputs.inner.packed.ids for p in parts]), whole.inputs.inner.packed.ids)


@pytest.mark.parametrize("inner", [RetroMAEConfig(), ContrastiveConfig(recompute_above=64)])
@pytest.mark.parametrize("changes", [{}, {"norm_first": True, "rotary": True, "type_vocabulary_size": 0}])
def test_other_objectives_may_stand_inside(build, inner, changes):
    objective, checkpoint = build(SubstructuresConfig(objective=inner, top_layers=2), **changes)
    for part in ((2, 0), (4, 2), (5, 4)):
        batch = drawn(objective, part)
        checkpoint.encoder.zero_grad()
        objective.loss(checkpoint.encoder, batch).total.backward()
        learning = [layer.attention.qkv.weight.grad is not None for layer in checkpoint.encoder.layers]
        assert learning == [part[1] <= number < part[0] for number in range(5)]


def test_cost_counts_what_runs_and_what_learns(build):
    objective, checkpoint = build(SubstructuresConfig(top_layers=2))
    encoder = checkpoint.encoder
    layer = encoder.flops([10, 7], 1)
    assert encoder.flops([10, 7]) == pytest.approx(5 * layer)
    batch = drawn(objective, (4, 2))
    one = encoder.flops(batch.lengths.tolist(), 1)
    head = head_flops(encoder, len(batch.inputs.inner.targets))
    assert objective.flops(encoder, batch) == pytest.approx(4 * one + 2 * 2 * one + head)
    objective.progress = 0.9
    batch = objective.collate(range(5), np.random.default_rng(0))
    head = head_flops(encoder, len(batch.inputs.inner.targets))
    assert objective.flops(encoder, batch) == pytest.approx(3 * 5 * one + head)


def test_a_model_without_smaller_parts_is_refused(build):
    with pytest.raises(ModelError, match="5 layers are to learn at a time, and the model has 5 in all"):
        build(SubstructuresConfig(top_layers=5))
    with pytest.raises(ModelError, match="has 1 in all"):
        build(SubstructuresConfig(), layers=1)


@pytest.mark.parametrize(
    "wrong", [{"first_share": 0}, {"first_share": 1}, {"top_layers": 0}, {"objective": {"kind": "sum"}}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        SubstructuresConfig.model_validate(wrong)


def test_training_goes_through_both_stages_and_learns(build, tmp_path):
    from benchmarks.claims.mechanics.substructures import check

    objective, checkpoint = build(SubstructuresConfig(objective=MaskedLanguageConfig(), first_share=0.5), layers=4)
    records = []
    settings = TrainingConfig(
        learning_rate=3e-3,
        fresh_learning_rate=3e-3,
        batch_tokens=300,
        evaluations=0,
        max_epochs=10**6,
        precision="float32",
    )
    train(checkpoint.encoder, objective, settings, BudgetConfig(tokens=20_000), tmp_path, seed=0, report=records.append)
    steps = [record for record in records if isinstance(record, StepRecord)]
    half = len(steps) // 2
    assert {record.parts["layers"] for record in steps[:half]} == {1, 2, 3, 4}
    assert {record.parts["layers"] for record in steps[-half:]} == {4}
    assert np.mean([r.loss for r in steps[-5:]]) < 0.8 * np.mean([r.loss for r in steps[:5]])
    assert np.mean([r.step_flops for r in steps[:half]]) < np.mean([r.step_flops for r in steps[-half:]])
    assert check(objective, checkpoint.encoder, np.random.default_rng(0))["holds"]
