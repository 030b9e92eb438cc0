from __future__ import annotations

import pytest
import torch

from corpusmith.objective.config import ContrastiveConfig, RetroMAEConfig
from corpusmith.objective.registry import build_objective
from corpusmith.training.config import TrainingConfig
from corpusmith.training.optimiser import average_and_clip, build_optimiser, named_parameters, set_learning_rate


@pytest.fixture
def parts(tiny_checkpoint, tiny_data):
    checkpoint = tiny_checkpoint()
    objective = build_objective(RetroMAEConfig(), tiny_data, checkpoint, 0)
    config = TrainingConfig(learning_rate=1e-3, fresh_learning_rate=1e-2, weight_decay=0.1)
    optimiser = build_optimiser(checkpoint.encoder, objective, config)
    names = {parameter: name for name, parameter in named_parameters(checkpoint.encoder, objective).items()}
    groups = [({names[p] for p in group["params"]}, group) for group in optimiser.param_groups]
    return names, groups, optimiser


def test_every_parameter_is_in_exactly_one_group(parts):
    names, groups, _ = parts
    assert sorted(name for group, _ in groups for name in group) == sorted(names.values())


def test_norms_biases_and_embeddings_do_not_decay_and_matrices_do(parts):
    _, groups, _ = parts
    decayed = {name for group, options in groups if options["weight_decay"] > 0 for name in group}
    assert "encoder.layers.0.attention.qkv.weight" in decayed
    assert not any(".bias" in name or "norm" in name or "embeddings" in name or "positions" in name for name in decayed)


def test_fresh_parts_learn_at_their_own_rate_and_the_schedule_scales_both(parts):
    _, groups, optimiser = parts
    set_learning_rate(optimiser, 0.5)
    rates = {name: options["lr"] for group, options in groups for name in group}
    assert rates["encoder.layers.1.mlp.up.weight"] == 0.5e-3
    assert rates["objective.decoder.layer.mlp.up.weight"] == 0.5e-2
    assert rates["objective.head.dense.weight"] == 0.5e-2


def test_the_objectives_default_rate_stands_where_the_recipe_names_none(tiny_checkpoint, tiny_data):
    checkpoint = tiny_checkpoint()
    objective = build_objective(ContrastiveConfig(), tiny_data, checkpoint, 0)
    optimiser = build_optimiser(checkpoint.encoder, objective, TrainingConfig())
    assert {group["peak"] for group in optimiser.param_groups} == {objective.learning_rate}


def test_summed_gradients_become_a_mean_and_large_ones_are_clipped():
    parameter = torch.nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full((4,), 6.0)
    assert average_and_clip([parameter], weight=3.0, limit=100.0) == 4.0
    assert parameter.grad.tolist() == [2.0] * 4
    assert average_and_clip([parameter], weight=1.0, limit=1.0) == 4.0
    assert float(parameter.grad.norm()) == pytest.approx(1.0, abs=1e-5)


def test_parameters_without_a_gradient_are_left_out():
    with_gradient, without = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    with_gradient.grad = torch.tensor([2.0])
    assert average_and_clip([with_gradient, without], weight=1.0, limit=10.0) == 2.0
    assert without.grad is None
