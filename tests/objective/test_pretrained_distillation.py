from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.objective import dense
from torch.nn import functional as F

from corpusmith.errors import ModelError
from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.growth.choose_layers import ChooseLayers
from corpusmith.growth.options.smaller import ChooseLayersConfig
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.objective.config import MaskedLanguageConfig, PretrainedDistillationConfig
from corpusmith.objective.masked_language import head_flops
from corpusmith.objective.pretrained_distillation import PretrainedDistillation
from corpusmith.objective.registry import build_objective
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(checkpoint=None, **options) -> PretrainedDistillation:
        config = PretrainedDistillationConfig(**options)
        return build_objective(config, tiny_data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def logits(head: MaskedLanguageHead, embedding: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    features = dense.norm(head.norm, F.gelu(hidden @ head.dense.weight.T + head.dense.bias))
    return features @ embedding.T + head.bias


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({}, 48),
        ({"temperature": 2.0, "named_weight": 0.4}, 48),
        ({"temperature": 0.7, "states_weight": 0.3, "named_weight": 0.1}, 32),
    ],
)
def test_loss_and_gradients_are_those_of_the_formula(make, teacher, tiny_checkpoint, options, width):
    whole = teacher(hidden_size=width)
    objective, encoder = make(teacher=whole.name, masking_rate=0.4, **options), tiny_checkpoint().encoder
    batch = objective.collate([3, 11, 6], np.random.default_rng(0))
    inputs, temperature = batch.inputs, options.get("temperature", 1.0)
    targets = dense.by_token(inputs.packed, inputs.places, inputs.targets)
    soft, named, angles = (torch.zeros(()) for _ in range(3))
    for ids, target in dense.passages(inputs.packed, targets):
        hidden = target >= 0
        found = dense.encoded(encoder, ids)[hidden]
        with torch.no_grad():
            wanted = dense.encoded(whole.encoder, ids)[hidden]
            shares = (logits(whole.head, whole.encoder.embeddings.tokens.weight, wanted) / temperature).softmax(1)
        own = logits(objective.head, encoder.embeddings.tokens.weight, found)
        soft = soft + (shares * (shares.log() - (own / temperature).log_softmax(1))).sum()
        named = named - own.log_softmax(1)[torch.arange(len(own)), target[hidden]].sum()
        if width == 32:
            angles = angles + (1 - (found * wanted).sum(1) / (found.norm(dim=1) * wanted.norm(dim=1))).sum()
    total = temperature**2 * soft + options.get("named_weight", 0) * named + options.get("states_weight", 0) * angles
    dense.assert_same(objective, encoder, batch, total / len(inputs.targets))
    loss = objective.loss(encoder, batch)
    assert loss.weight == len(inputs.targets)
    assert loss.parts["divergence"] == pytest.approx(
        temperature**2 * float(soft.detach()) / len(inputs.targets), rel=1e-4
    )
    assert loss.parts.keys() == {"divergence"} | {name.removesuffix("_weight") for name in options} - {"temperature"}
    with torch.no_grad():
        torch.testing.assert_close(objective.loss(encoder, batch).total, loss.total)


def test_whoever_says_the_same_has_no_loss(make, teacher):
    whole = teacher()
    objective = make(whole)
    batch = objective.collate(range(6), np.random.default_rng(0))
    with torch.no_grad():
        assert float(objective.loss(whole.encoder, batch).total) == pytest.approx(0, abs=1e-5)
        whole.encoder.layers[0].mlp.up.weight.mul_(5)
        assert float(objective.loss(whole.encoder, batch).total) > 0.01


def test_tokens_are_hidden_as_in_masked_language_modelling(make, teacher, tiny_checkpoint, tiny_data):
    objective = make(teacher=teacher().name)
    plain = build_objective(MaskedLanguageConfig(), tiny_data, tiny_checkpoint(), seed=0)
    ours, theirs = (o.collate([1, 5, 9], np.random.default_rng(2)).inputs for o in (objective, plain))
    assert torch.equal(ours.packed.ids, theirs.packed.ids)
    rng = np.random.default_rng(2)
    parts = [objective.collate(part, rng).inputs.packed.ids for part in ([1], [5, 9])]
    assert torch.equal(torch.cat(parts), ours.packed.ids)


def test_the_teacher_is_neither_kept_nor_changed(make, teacher, tiny_checkpoint):
    objective, encoder = make(teacher=teacher().name), tiny_checkpoint().encoder
    assert all(name.startswith("head.") for name in objective.state_dict())
    objective.loss(encoder, objective.collate(range(4), np.random.default_rng(0))).total.backward()
    frozen = [*objective.teacher.encoder.parameters(), *objective.teacher.head.parameters()]
    assert all(not p.requires_grad and p.grad is None for p in frozen)
    assert objective.head_is_fresh


def test_cost_counts_the_teachers_forward_pass_and_both_uses_of_the_head(make, teacher, tiny_checkpoint):
    whole, encoder = teacher(), tiny_checkpoint().encoder
    for weight, uses in ((0.0, 1), (0.5, 2)):
        objective = make(teacher=whole.name, named_weight=weight)
        batch = objective.collate(range(3), np.random.default_rng(0))
        predictions = len(batch.inputs.targets)
        lengths = batch.lengths.tolist()
        student = 3 * encoder.flops(lengths) + uses * head_flops(encoder, predictions)
        teachers = whole.encoder.flops(lengths) + 2 * predictions * 48 * (48 + encoder.config.vocabulary_size)
        assert objective.flops(encoder, batch) == pytest.approx(student + teachers)


def test_teachers_that_cannot_be_compared_are_refused(make, teacher, tiny_checkpoint):
    whole = teacher()
    with pytest.raises(ModelError, match="the model at the start has no masked-language head"):
        make()
    with pytest.raises(ModelError, match="states of one width"):
        make(teacher=whole.name, states_weight=1.0)
    size = tiny_checkpoint().encoder.config.vocabulary_size
    larger = replace(tiny_checkpoint().encoder.config, vocabulary_size=size + 8)
    with pytest.raises(ModelError, match=rf"has {size} token embeddings and the model that is trained {size + 8}"):
        make(tiny_checkpoint(encoder=type(whole.encoder)(larger)), teacher=whole.name)


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"named_weight": -1}, {"states_weight": -1}, {"teacher": ""}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        PretrainedDistillationConfig(**wrong)


def test_a_student_of_some_of_the_layers_comes_to_speak_as_its_teacher(teacher, tiny_data, tmp_path):
    from benchmarks.claims.mechanics.pretrained_distillation import check

    whole = teacher()
    operator = ChooseLayers(ChooseLayersConfig())
    target = operator.shape(whole.encoder.config, 2)
    student = grown_checkpoint(operator, GrowthInput(whole, target, torch.Generator()))
    objective = build_objective(PretrainedDistillationConfig(teacher=whole.name), tiny_data, student, seed=0)
    before = check(objective, student.encoder, np.random.default_rng(0))
    settings = TrainingConfig(
        learning_rate=3e-3, batch_tokens=300, max_epochs=10**6, evaluations=0, precision="float32"
    )
    train(student.encoder, objective, settings, BudgetConfig(tokens=20_000), tmp_path / "run", seed=0)
    after = check(objective, student.encoder, np.random.default_rng(0))
    assert after["holds"]
    assert after["divergence"] < 0.6 * before["divergence"]
