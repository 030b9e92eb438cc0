from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from corpusmith.objective.base import Batch, Loss
from corpusmith.training.gradients import accumulate


class MeanOfSquares:
    """Loss (w x)^2, averaged over the batch's numbers x."""

    def loss(self, encoder, batch: Batch) -> Loss:
        losses = (encoder.weight * batch.inputs) ** 2
        total = losses.mean() if len(losses) else encoder.weight * 0
        return Loss(total, len(losses), {"largest": float(len(losses))})

    def flops(self, encoder, batch: Batch) -> float:
        return 10.0 * batch.tokens


def batch(*numbers: float) -> Batch:
    return Batch(np.array([len(numbers)]), torch.tensor(numbers))


def run(*batches: Batch, backward: bool = True):
    encoder = SimpleNamespace(weight=torch.tensor(3.0, requires_grad=True))
    found = accumulate(encoder, MeanOfSquares(), iter(batches), backward=backward)  # type: ignore[arg-type]
    return found, encoder.weight.grad


def test_unequal_parts_give_the_loss_and_gradient_of_the_whole():
    whole, gradient = run(batch(1, 2, 3, 4, 5))
    parts, accumulated = run(batch(1), batch(2, 3, 4, 5))
    assert parts.loss == pytest.approx(whole.loss)
    assert (parts.weight, parts.tokens, parts.flops) == (whole.weight, whole.tokens, whole.flops) == (5, 5, 50)
    torch.testing.assert_close(accumulated, gradient)


def test_a_part_with_nothing_to_learn_counts_for_nothing():
    with_empty, gradient = run(batch(1, 2), batch())
    without, expected = run(batch(1, 2))
    assert with_empty == without
    torch.testing.assert_close(gradient, expected)


def test_nothing_to_learn_at_all_is_a_loss_of_zero():
    found, gradient = run(batch())
    assert (found.loss, found.weight, float(gradient)) == (0, 0, 0)


def test_without_backward_there_is_no_gradient():
    _, gradient = run(batch(1, 2), backward=False)
    assert gradient is None
