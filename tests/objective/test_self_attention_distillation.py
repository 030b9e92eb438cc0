from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tokenizers
import torch
from pydantic import ValidationError
from tests.objective import dense

from corpusmith.errors import CorpusError, ModelError
from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.growth.choose_layers import ChooseLayers
from corpusmith.growth.options.smaller import ChooseLayersConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.objective.config import SelfAttentionDistillationConfig
from corpusmith.objective.registry import build_objective
from corpusmith.objective.self_attention_distillation import SelfAttentionDistillation, _relation_heads
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import train
from corpusmith.vocabulary.tokenizer import Tokenizer

MODERN = {
    "model_type": "modernbert",
    "rotary": True,
    "norm_first": True,
    "gated": True,
    "type_vocabulary_size": 0,
    "local_window": 2,
    "windowed": (False, True),
}


@pytest.fixture
def make(tiny_checkpoint, tiny_data):
    def start(checkpoint=None, **options) -> SelfAttentionDistillation:
        config = SelfAttentionDistillationConfig(**options)
        return build_objective(config, tiny_data, checkpoint or tiny_checkpoint(), seed=0)

    return start


def projected(encoder: Encoder, ids: torch.Tensor, layer: int) -> list[torch.Tensor]:
    """Queries, keys and values `[L, D]` of a layer with norms behind, written out."""
    hidden = dense.embedded(encoder, ids)
    for below in encoder.layers[: layer - 1]:
        hidden = dense.fed(below, dense.attended(below, hidden))
    qkv = encoder.layers[layer - 1].attention.qkv
    return list((hidden @ qkv.weight.T + qkv.bias).chunk(3, dim=1))


def divergence(ours: list[torch.Tensor], theirs: list[torch.Tensor], pair: tuple[int, int], parts: int) -> torch.Tensor:
    """Summed over parts and tokens, one distribution after the other."""
    total = torch.zeros(())
    for part in range(parts):
        logs = []
        for states in (ours, theirs):
            x, y = (states[i].chunk(parts, dim=1)[part] for i in pair)
            logs.append([(row @ y.T / x.shape[1] ** 0.5).log_softmax(0) for row in x])
        for found, wanted in zip(*logs, strict=True):
            total = total + (wanted.exp() * (wanted - found)).sum()
    return total


@pytest.mark.parametrize(
    ("options", "pairs", "parts"),
    [
        ({"relation_heads": 4}, [(0, 0), (1, 1), (2, 2)], 4),
        ({"relation_heads": 16, "teacher_layer": 2}, [(0, 0), (1, 1), (2, 2)], 16),
        ({"relations": "attention"}, [(0, 1), (2, 2)], 2),
    ],
)
def test_loss_and_gradients_are_those_of_the_formula(make, teacher, tiny_checkpoint, options, pairs, parts):
    whole = teacher()
    objective, encoder = make(teacher=whole.name, **options), tiny_checkpoint().encoder
    batch = objective.collate([3, 11, 0, 7], np.random.default_rng(0))
    assert len(set(batch.lengths)) > 2
    sums = [torch.zeros(()) for _ in pairs]
    for (ids,) in dense.passages(batch.inputs):
        ours = projected(encoder, ids, 2)
        with torch.no_grad():
            theirs = projected(whole.encoder, ids, options.get("teacher_layer", 3))
        sums = [total + divergence(ours, theirs, pair, parts) for total, pair in zip(sums, pairs, strict=True)]
    tokens = int(batch.lengths.sum())
    expected = sum(sums) / (parts * tokens)
    found = objective.loss(encoder, batch)
    assert found.weight == tokens
    assert list(found.parts.values()) == pytest.approx([float(s.detach()) / (parts * tokens) for s in sums], rel=1e-4)
    dense.assert_same(objective, encoder, batch, expected)
    with torch.no_grad():
        torch.testing.assert_close(objective.loss(encoder, batch).total, found.total)


@pytest.mark.parametrize("relations", ["self", "attention"])
def test_rotary_positions_are_part_of_attention_alone(make, tiny_checkpoint, relations):
    config = replace(tiny_checkpoint().encoder.config, **MODERN)
    start = tiny_checkpoint(encoder=Encoder(config, torch.Generator().manual_seed(5)))
    objective = make(start, relations=relations)
    student = Encoder(config, torch.Generator().manual_seed(6))
    batch = objective.collate([3, 11, 0], np.random.default_rng(0))
    total = torch.zeros(())
    for (ids,) in dense.passages(batch.inputs):
        states = []
        for encoder in (student, start.encoder):
            one = pack([ids.numpy()])
            layer = encoder.layers[1]
            hidden = layer.attention_norm(encoder.hidden_states(one, (1,))[0])
            found = list(layer.attention.qkv(hidden).chunk(3, dim=1))
            if relations == "attention":
                found[:2] = [layer.attention.rotary(x, one.positions) for x in found[:2]]
            states.append(found)
        pairs = [(0, 1), (2, 2)] if relations == "attention" else [(0, 0), (1, 1), (2, 2)]
        total = total + sum(divergence(*states, pair, 2) for pair in pairs)
    found = objective.loss(student, batch).total
    torch.testing.assert_close(found, total / (2 * batch.lengths.sum()), atol=1e-5, rtol=1e-4)


def test_a_batch_may_be_cut_anywhere(make, teacher, tiny_checkpoint):
    objective, encoder = make(teacher=teacher().name), tiny_checkpoint().encoder
    assert objective.divisible
    whole, *parts = (
        objective.loss(encoder, objective.collate(examples, np.random.default_rng(0)))
        for examples in (range(9), range(4), range(4, 9))
    )
    assert whole.weight == sum(part.weight for part in parts)
    joined = sum(float(part.total.detach()) * part.weight for part in parts) / whole.weight
    assert joined == pytest.approx(float(whole.total.detach()), rel=1e-5)


def test_the_teacher_is_neither_kept_nor_changed(make, teacher, tiny_checkpoint):
    objective, encoder = make(teacher=teacher().name), tiny_checkpoint().encoder
    assert objective.state_dict() == objective.parts() == {}
    objective.loss(encoder, objective.collate(range(4), np.random.default_rng(0))).total.backward()
    assert all(not p.requires_grad and p.grad is None for p in objective.teacher.encoder.parameters())
    last = encoder.layers[-1]
    assert last.mlp.up.weight.grad is None
    assert last.attention.qkv.weight.grad is not None


def test_without_a_teacher_the_start_is_one(make, tiny_checkpoint):
    checkpoint = tiny_checkpoint()
    objective = make(checkpoint)
    batch = objective.collate(range(4), np.random.default_rng(0))
    with torch.no_grad():
        assert float(objective.loss(checkpoint.encoder, batch).total) == pytest.approx(0, abs=1e-6)
        checkpoint.encoder.layers[-1].attention.qkv.weight.mul_(5)
        assert float(objective.loss(checkpoint.encoder, batch).total) > 0.1


def test_short_passages_are_taken(make, teacher, tiny_checkpoint):
    objective = make(teacher=teacher().name)
    objective.max_tokens = 3
    batch = objective.collate([0, 1], np.random.default_rng(0))
    assert batch.lengths.tolist() == [3, 3]
    assert torch.isfinite(objective.loss(tiny_checkpoint().encoder, batch).total)


def test_cost_counts_the_teachers_forward_pass_and_the_relations(make, teacher, tiny_checkpoint):
    objective, encoder = make(teacher=teacher().name, teacher_layer=2), tiny_checkpoint().encoder
    batch = objective.collate(range(3), np.random.default_rng(0))
    tokens, squares = batch.lengths.sum(), (batch.lengths**2).sum()

    def layer(width: int, inner: int) -> float:
        return 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * width * squares

    student = layer(32, 64) + 2 * tokens * 3 * 32**2 + 3 * 2 * squares * 32
    whole = layer(48, 64) + 2 * tokens * 3 * 48**2 + 3 * 2 * squares * 48
    assert objective.flops(encoder, batch) == pytest.approx(3 * student + whole)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [(384, 768, 48), (384, 1024, 64), (768, 1024, 64), (768, 768, 48), (32, 48, 2), (7, 48, 1)],
)
def test_parts_are_as_many_as_in_the_paper(ours, theirs, expected):
    assert _relation_heads(SelfAttentionDistillationConfig(), ours, theirs) == expected


def test_teachers_that_cannot_be_compared_are_refused(make, teacher, tiny_checkpoint, tmp_path):
    whole = teacher(heads=4)
    with pytest.raises(ModelError, match=r"has 4 heads and the model that is trained 2.*relations = 'self'"):
        make(teacher=whole.name, relations="attention")
    with pytest.raises(ModelError, match="divisor of 16"):
        make(teacher=whole.name, relation_heads=3)
    with pytest.raises(ModelError, match="has 3 layers"):
        make(teacher=whole.name, teacher_layer=4)
    with pytest.raises(ModelError, match=r"16 tokens, and the model that is trained 32"):
        make(teacher=teacher(max_positions=16).name)
    words = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "a": 3}
    other = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]")), {}, {})
    with pytest.raises(ModelError, match="another tokenizer"):
        make(tiny_checkpoint(tokenizer=other), teacher=whole.name)
    with pytest.raises(ModelError, match="no folder"):
        make(teacher=str(tmp_path / "nowhere"))


def test_no_passage_at_all_is_one_clear_sentence(tiny_checkpoint, tiny_data):
    data = replace(tiny_data, rows=np.array([], dtype=np.int64))
    with pytest.raises(CorpusError, match="no passage to train on"):
        build_objective(SelfAttentionDistillationConfig(), data, tiny_checkpoint(), seed=0)


@pytest.mark.parametrize(
    "wrong",
    [{"relations": "attention", "relation_heads": 2}, {"relation_heads": 0}, {"teacher_layer": 0}, {"teacher": ""}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        SelfAttentionDistillationConfig(**wrong)


@pytest.mark.parametrize("relations", ["self", "attention"])
def test_a_student_of_some_of_the_layers_comes_to_relate_tokens_as_its_teacher(teacher, tiny_data, tmp_path, relations):
    from benchmarks.claims.mechanics.self_attention_distillation import check

    whole = teacher()
    operator = ChooseLayers(ChooseLayersConfig())
    target = operator.shape(whole.encoder.config, 2)
    student = grown_checkpoint(operator, GrowthInput(whole, target, torch.Generator()))
    options = SelfAttentionDistillationConfig(teacher=whole.name, relations=relations)
    objective = build_objective(options, tiny_data, student, seed=0)
    before = check(objective, student.encoder, np.random.default_rng(0))
    settings = TrainingConfig(
        learning_rate=3e-3, batch_tokens=300, max_epochs=10**6, evaluations=0, precision="float32"
    )
    train(student.encoder, objective, settings, BudgetConfig(tokens=15_000), tmp_path / "run", seed=0)
    after = check(objective, student.encoder, np.random.default_rng(0))
    assert after["holds"]
    assert after["divergence"] < 0.5 * before["divergence"]
