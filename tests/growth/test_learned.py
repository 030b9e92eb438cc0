"""What the learned operators have in common."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.growth.examples import FAMILIES, LARGER_HEADS, WIDE, WIDE_AND_DEEP, operator, shape
from torch import nn
from torch.nn import functional as F

from corpusmith.errors import CorpusmithError, ModelError
from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.growth.learn import LearnedOperator, backward
from corpusmith.growth.weights import empty_model, model_of, weights_of

KINDS = ["ligo", "mango"]


def grow(kind: str, source: Any, target: Any, loss: Any = None, **options: Any) -> Any:
    given = GrowthInput(source, target, torch.Generator().manual_seed(1), loss)
    return grown_checkpoint(operator(kind, **options), given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_learning_begins_at_the_function_preserved(kind: str, family: str, model: Any, batch: Any) -> None:
    source = model(shape(family))
    larger = [WIDE] if family == "modernbert" else [WIDE, {"hidden_size": 72, "intermediate_size": 144}]
    for sizes in larger:
        grown = grow(kind, source, shape(family, **sizes), steps=0)
        before, after = source.encoder(batch), grown.encoder(batch)
        distances = (before[:, :, None] - after[:, None, :]).abs().amax(dim=0)
        assert distances.amin(dim=1).max() < 1e-5
        logits = [m.head(h, m.encoder.token_embedding.weight) for m, h in ((source, before), (grown, after))]
        torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)


def test_ligo_also_begins_there_where_rotary_heads_grow(model: Any, batch: Any) -> None:
    source = model(shape("modernbert"))
    grown = grow("ligo", source, shape("modernbert", **LARGER_HEADS), steps=0)
    torch.testing.assert_close(grown.encoder(batch)[:, :24], source.encoder(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_lower_after_learning_than_before(kind: str, family: str, model: Any, masked_loss: Any) -> None:
    source, target = model(shape(family)), shape(family, **WIDE_AND_DEEP)
    loss = masked_loss(target)
    found = {}
    for steps in (0, 15):
        grown = grow(kind, source, target, loss, steps=steps, learning_rate=3e-3)
        found[steps] = float(loss(grown.encoder, grown.head, 0).detach())
    assert found[15] < found[0] - 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_one_function_of_the_maps(kind: str, family: str, model: Any, batch: Any) -> None:
    source, target = model(shape(family)), shape(family, **WIDE_AND_DEEP)
    built = operator(kind)
    assert isinstance(built, LearnedOperator)
    weights = weights_of(source.encoder, source.head)
    maker = built.maker(weights, source.encoder.config, target, torch.Generator().manual_seed(1))
    encoder, head = model_of(target, maker())

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = encoder, head

        def forward(self) -> torch.Tensor:
            logits = self.head(self.encoder(batch), self.encoder.token_embedding.weight)
            return F.cross_entropy(logits, batch.ids)

    whole, parameters = Whole(), list(maker.parameters())
    loss = torch.func.functional_call(whole, maker(), ())
    expected = torch.autograd.grad(loss, parameters)
    assert backward(maker, encoder, head, lambda *_: whole(), 0) == pytest.approx(float(loss.detach()), abs=1e-5)
    assert all(parameter.grad is None for parameter in whole.parameters())
    assert any(gradient.abs().max() > 1e-2 for gradient in expected)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_loss_there_is_nothing_to_learn_from(kind: str, model: Any) -> None:
    with pytest.raises(ModelError, match=f"{kind} is learned with the training loss, and there is none"):
        grow(kind, model(shape("bert")), shape("bert", **WIDE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_no_number_is_named(kind: str, model: Any) -> None:
    def loss(encoder: Any, head: Any, step: int) -> torch.Tensor:
        return encoder.token_embedding.weight.sum() * float("nan")

    with pytest.raises(CorpusmithError, match="diverged in step 1: the loss is nan; lower"):
        grow(kind, model(shape("bert")), shape("bert", **WIDE), loss)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_asked_as_often_as_the_operator_says(kind: str, model: Any, masked_loss: Any) -> None:
    target = shape("bert", **WIDE)
    loss, asked = masked_loss(target), []

    def counting(encoder: Any, head: Any, step: int) -> torch.Tensor:
        asked.append(step)
        return loss(encoder, head, step)

    grow(kind, model(shape("bert")), target, counting, steps=3)
    assert asked == list(range(operator(kind, steps=3).steps))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_operations_of_learning_are_those_of_the_products(kind: str, family: str) -> None:
    source, target = shape(family), shape(family, **WIDE_AND_DEEP)
    found = operator(kind, steps=10).flops(source, target)
    assert found == 10 * operator(kind, steps=1).flops(source, target)
    assert operator(kind, steps=0).flops(source, target) == 0
    encoder, _ = empty_model(source, with_head=False)
    matrices = [part.weight for part in encoder.layers.modules() if isinstance(part, nn.Linear)]
    one_side = sum(2 * target.hidden_size * matrix.numel() for matrix in matrices)  # the least that a forward pass is
    assert 3 * one_side < found / 10 < 40 * one_side
