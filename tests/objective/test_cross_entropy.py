from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from corpusmith.objective import cross_entropy as module
from corpusmith.objective.cross_entropy import Bags, bag_cross_entropy, cross_entropy, soft_cross_entropy


@pytest.fixture
def problem() -> tuple[torch.Tensor, torch.Tensor, nn.Linear, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 8, generator=generator).requires_grad_()
    targets = torch.randint(0, 11, (37,), generator=generator)
    transform = nn.Linear(8, 8)
    embedding = nn.Parameter(torch.randn(11, 8, generator=generator))
    return hidden, targets, transform, embedding


@pytest.mark.parametrize("rows", [1, 5, 37, 1000])
def test_loss_and_all_gradients_equal_the_plain_ones_however_rows_are_cut(problem, rows, monkeypatch):
    hidden, targets, transform, embedding = problem
    inputs = [hidden, embedding, *transform.parameters()]

    def logits_of(h: torch.Tensor) -> torch.Tensor:
        return transform(h).tanh() @ embedding.T

    plain = F.cross_entropy(logits_of(hidden), targets)
    expected = torch.autograd.grad(plain * 3, inputs)
    monkeypatch.setattr(module, "LOGITS_HELD", rows * 11)
    loss = cross_entropy(logits_of, hidden, targets, [embedding, *transform.parameters()], 11)
    found = torch.autograd.grad(loss * 3, inputs)
    torch.testing.assert_close(loss, plain)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("rows", [1, 5, 37, 1000])
def test_soft_targets_give_the_plain_divergence_and_gradients_however_rows_are_cut(
    problem, rows, temperature, monkeypatch
):
    hidden, _, transform, embedding = problem
    inputs = [hidden, embedding, *transform.parameters()]
    wanted = torch.randn(37, 5, generator=torch.Generator().manual_seed(1))
    other = nn.Linear(5, 11)

    def logits_of(h: torch.Tensor) -> torch.Tensor:
        return transform(h).tanh() @ embedding.T

    ours, theirs = logits_of(hidden) / temperature, other(wanted).detach() / temperature
    plain = F.kl_div(ours.log_softmax(1), theirs.softmax(1), reduction="batchmean") * temperature**2
    expected = torch.autograd.grad(plain * 3, inputs)
    monkeypatch.setattr(module, "LOGITS_HELD", rows * 2 * 11)
    arguments = (logits_of, hidden, other, wanted, [embedding, *transform.parameters()], 11, temperature)
    loss = soft_cross_entropy(*arguments)
    found = torch.autograd.grad(loss * 3, inputs)
    torch.testing.assert_close(loss, plain)
    for one, another in zip(found, expected, strict=True):
        torch.testing.assert_close(one, another)
    with torch.no_grad():
        torch.testing.assert_close(soft_cross_entropy(*arguments), plain.detach())


def test_logits_held_at_a_time_are_bounded(problem, monkeypatch):
    hidden, targets, _, embedding = problem
    seen: list[int] = []

    def logits_of(h: torch.Tensor) -> torch.Tensor:
        seen.append(len(h))
        return h @ embedding.T

    monkeypatch.setattr(module, "LOGITS_HELD", 4 * 11)
    cross_entropy(logits_of, hidden, targets, [embedding], 11)
    assert max(seen) == 4
    assert sum(seen) == 37


def test_frozen_parameters_get_no_gradient_and_the_others_do(problem):
    hidden, targets, transform, embedding = problem
    transform.requires_grad_(False)
    loss = cross_entropy(
        lambda h: transform(h) @ embedding.T, hidden, targets, [*transform.parameters(), embedding], 11
    )
    loss.backward()
    assert transform.weight.grad is None
    assert embedding.grad is not None
    assert hidden.grad is not None


def test_without_gradients_the_loss_is_the_same(problem):
    hidden, targets, _, embedding = problem
    with torch.no_grad():
        loss = cross_entropy(lambda h: h @ embedding.T, hidden, targets, [embedding], 11)
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ embedding.T, targets).detach())


BAGS = Bags(
    passages=torch.tensor([0, 1, 3, 4]),
    tokens=torch.tensor([2, 5, 0, 1, 5, 7, 9, 10, 3]),
    counts=np.array([2, 1, 5, 1]),
    lengths=np.array([4, 1, 25, 7]),
)
"""Four passages with 37 tokens."""


def plain_bag_loss(logits: torch.Tensor) -> torch.Tensor:
    """Mean over all words of all bags, from each passage's logits `[4, V]`."""
    tokens = BAGS.tokens.split(BAGS.counts.tolist())
    words = [-row.log_softmax(0)[bag] for row, bag in zip(logits, tokens, strict=True)]
    return torch.cat(words).mean()


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_bags_give_the_plain_loss_and_gradients_however_rows_are_cut(problem, rows, largest, monkeypatch):
    hidden, _, transform, embedding = problem
    hidden = hidden if largest else hidden[:4]
    inputs = [hidden, embedding, *transform.parameters()]

    def logits_of(h: torch.Tensor) -> torch.Tensor:
        return transform(h).tanh() @ embedding.T

    logits = logits_of(hidden)
    if largest:
        logits = torch.stack([part.amax(dim=0) for part in logits.split(BAGS.lengths.tolist())])
    plain = plain_bag_loss(logits)
    expected = torch.autograd.grad(plain * 3, inputs)
    monkeypatch.setattr(module, "LOGITS_HELD", rows * 11)
    loss = bag_cross_entropy(logits_of, hidden, BAGS, [embedding, *transform.parameters()], 11)
    found = torch.autograd.grad(loss * 3, inputs)
    torch.testing.assert_close(loss, plain)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        without = bag_cross_entropy(logits_of, hidden, BAGS, [embedding], 11)
    torch.testing.assert_close(without, plain.detach())
