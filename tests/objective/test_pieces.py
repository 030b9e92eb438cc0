from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from corpusmith.objective.pieces import of_each, runs


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_runs_follow_each_other_and_none_is_much_longer_than_asked_for(lengths, most):
    found = runs(np.array(lengths), most)
    assert [i for first, last in found for i in range(first, last)] == list(range(len(lengths)))
    assert all(sum(lengths[first:last]) < most + max(lengths) for first, last in found)
    assert len(found) <= -(-sum(lengths) // most)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_in_pieces_the_result_and_the_gradient_are_those_of_the_whole(dropout):
    layer, x = nn.Linear(4, 3), torch.arange(24.0).view(6, 4)
    results = []
    for recompute in (False, True):
        torch.manual_seed(5)
        calls: list[int] = []

        def both(part: torch.Tensor, calls: list[int] = calls) -> tuple[torch.Tensor, torch.Tensor]:
            calls.append(len(part))
            inner = F.dropout(layer(part).tanh(), dropout)
            return inner.sum(dim=1), inner[:1]

        pieces = list(x.split([3, 2, 1]))
        if recompute:
            sums, firsts = of_each(both, pieces)
        else:
            sums, firsts = (torch.cat(parts) for parts in zip(*map(both, pieces), strict=True))
        (gradient,) = torch.autograd.grad(sums.square().sum() + firsts.sum(), [layer.weight])
        results.append((sums, firsts, gradient))
        assert calls == ([3, 2, 1] if not recompute else [3, 2, 1, *calls[3:]])
        assert len(calls) == (6 if recompute else 3)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_one_piece_and_no_gradient_compute_nothing_twice():
    calls: list[int] = []

    def double(part: torch.Tensor) -> tuple[torch.Tensor]:
        calls.append(len(part))
        return (2 * part,)

    (found,) = of_each(double, [torch.ones(3, requires_grad=True)])
    found.sum().backward()
    with torch.no_grad():
        of_each(double, [torch.ones(2), torch.ones(1)])
    assert calls == [3, 2, 1]
