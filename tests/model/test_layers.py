"""A Transformer layer used alone, as RetroMAE's decoder uses one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from corpusmith.model.attention import AttentionLayout
from corpusmith.model.config import EncoderConfig
from corpusmith.model.layers import TransformerLayer, initialise
from corpusmith.model.linear import linear

CONFIG = EncoderConfig(
    model_type="bert",
    vocabulary_size=10,
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=32,
    max_positions=32,
    initializer_range=0.3,
)
LENGTHS = [5, 9, 2]


def layer() -> TransformerLayer:
    made = TransformerLayer(CONFIG)
    initialise(made, CONFIG, torch.Generator().manual_seed(0))
    return made


def states(seed: int) -> torch.Tensor:
    return torch.randn(sum(LENGTHS), CONFIG.hidden_size, generator=torch.Generator().manual_seed(seed))


def test_queries_equal_to_the_hidden_states_change_nothing() -> None:
    hidden, layout = states(1), AttentionLayout(LENGTHS)
    torch.testing.assert_close(layer()(hidden, layout, queries=hidden), layer()(hidden, layout))


def test_a_position_sees_of_the_hidden_states_only_what_its_mask_shows() -> None:
    decoder, layout = layer(), AttentionLayout(LENGTHS)
    hidden, queries = states(1), states(2)
    mask = torch.zeros(3, 9, 9, dtype=torch.bool)
    mask[:, :, 0] = True
    before = decoder(hidden, layout, queries=queries, mask=mask)
    changed = hidden.clone()
    changed[[1, 2, 3, 4, 6, 7, 15]] += 1.0  # never the first token of a sequence
    torch.testing.assert_close(decoder(changed, layout, queries=queries, mask=mask), before)
    changed[5] += 1.0  # the first token of the second sequence
    differs = (decoder(changed, layout, queries=queries, mask=mask) - before).abs().amax(1) > 1e-4
    assert differs.tolist() == [False] * 5 + [True] * 9 + [False] * 2


def test_gradients_reach_queries_and_hidden_states() -> None:
    hidden, queries = states(1).requires_grad_(), states(2).requires_grad_()
    layer()(hidden, AttentionLayout(LENGTHS), queries=queries).square().sum().backward()
    assert hidden.grad is not None
    assert queries.grad is not None
    assert (hidden.grad.abs().amax(1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_maps_equal_pytorchs(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in ((7, 16), (24, 16), (24,)))
    results = []
    for function in (linear, lambda x, w, b: F.linear(x, w.to(x.dtype), b.to(x.dtype))):
        leaves = [part.clone().requires_grad_() for part in (x, weight, bias)]
        out = function(leaves[0].to(dtype), leaves[1], leaves[2])
        out.square().sum().backward()
        results.append([out, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(
            ours, theirs, **({"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.5, "rtol": 0.05})
        )


def test_a_linear_map_of_no_rows_has_no_rows() -> None:
    assert linear(torch.empty(0, 16), torch.ones(4, 16), torch.zeros(4)).shape == (0, 4)
