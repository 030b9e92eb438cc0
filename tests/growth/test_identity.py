from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.growth.examples import shape

from corpusmith.errors import ModelError
from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.growth.identity import Identity
from corpusmith.growth.options.depth import IdentityConfig


def operator(place: str = "spread") -> Identity:
    return Identity(IdentityConfig.model_validate({"place": place}))


def grow(source: Any, layers: int, place: str = "spread") -> Any:
    built = operator(place)
    target = built.shape(source.encoder.config, layers)
    return grown_checkpoint(built, GrowthInput(source, target, torch.Generator()))


def test_new_blocks_stand_behind_groups_of_old_ones() -> None:
    assert operator().numbers(4, 6) == [0, 1, 1, 2, 3, 3]
    assert operator().numbers(3, 4) == [0, 1, 2, 2]
    assert operator().numbers(2, 6) == [0, 0, 0, 1, 1, 1]
    assert operator("end").numbers(3, 5) == [0, 1, 2, 2, 2]


@pytest.mark.parametrize(("layers", "place"), [(4, "spread"), (6, "spread"), (9, "spread"), (5, "end")])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_grown_model_computes_what_the_source_computes(
    family: str, layers: int, place: str, model: Any, batch: Any
) -> None:
    source = model(shape(family))
    grown = grow(source, layers, place)
    assert operator().preserves_function(source.encoder.config, grown.encoder.config)
    before, after = source.encoder(batch), grown.encoder(batch)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    logits = [c.head(h, c.encoder.token_embedding.weight) for c, h in ((source, before), (grown, after))]
    torch.testing.assert_close(logits[1], logits[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_block_only_with_zeros_in_it_would_not_do(family: str, model: Any, batch: Any) -> None:
    """The norms' part in it: without it the function is kept only where norms stand first."""
    source = model(shape(family))
    grown = grow(source, 4, "end")
    old, block = grown.encoder.layers[2], grown.encoder.layers[3]
    with torch.no_grad():
        for name in ("attention_norm", "mlp_norm"):
            getattr(block, name).load_state_dict(getattr(source.encoder.layers[2], name).state_dict())
        old.mlp_norm.load_state_dict(source.encoder.layers[2].mlp_norm.state_dict())
    distance = (grown.encoder(batch) - source.encoder(batch)).abs().max()
    assert (distance < 1e-5) == (family == "modernbert")


def test_with_a_large_epsilon_behind_it_is_near_and_does_not_claim_more(model: Any, batch: Any) -> None:
    source = model(shape("bert", norm_epsilon=1e-5))
    grown = grow(source, 6)
    assert not operator().preserves_function(source.encoder.config, grown.encoder.config)
    distance = (grown.encoder(batch) - source.encoder(batch)).abs().max()
    assert distance < 1e-3


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_block_reads_as_the_layer_that_it_copies_and_begins_to_learn(family: str, model: Any, batch: Any) -> None:
    source = model(shape(family))
    grown = grow(source, 6)
    assert operator().numbers(3, 6) == [0, 0, 1, 1, 2, 2]
    below, block = source.encoder.layers[1], grown.encoder.layers[3]
    theirs = source.encoder.hidden_states(batch, (2,))[0]
    ours = grown.encoder.hidden_states(batch, (3,))[0]
    if family == "modernbert":
        theirs, ours = below.attention_norm(theirs), block.attention_norm(ours)
    torch.testing.assert_close(block.attention.qkv(ours), below.attention.qkv(theirs), atol=1e-4, rtol=1e-4)
    if family == "bert":
        inner = block.mlp.up(block.attention_norm(ours))
        affine = below.attention_norm.weight * ours + below.attention_norm.bias
        torch.testing.assert_close(inner, below.mlp.up(affine), atol=1e-4, rtol=1e-4)
    grown.encoder(batch).square().sum().backward()
    for linear in (block.attention.output, block.mlp.down):
        assert not linear.weight.any()
        assert linear.weight.grad.abs().max() > 1e-4


def test_fewer_or_as_many_layers_and_other_widths_are_refused() -> None:
    with pytest.raises(ModelError, match="more layers than 3"):
        operator().shape(shape("bert"), 3)
    with pytest.raises(ModelError, match="another hidden_size"):
        operator().check(shape("bert"), shape("bert", layers=4, hidden_size=48))
