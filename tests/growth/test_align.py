from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.growth.examples import shape

from corpusmith.errors import ModelError
from corpusmith.growth.align import aligned, direction_agreement
from corpusmith.growth.merge import midpoint_barrier
from corpusmith.growth.spaces import select, spaces_of
from corpusmith.growth.weights import Weights, model_of, weights_of
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig


def shuffles(config: EncoderConfig, residual: bool, generator: torch.Generator) -> Weights:
    """Another order of all units that may be in any."""
    orders = {"hidden": torch.randperm(config.hidden_size, generator=generator)} if residual else {}
    for layer in range(config.layers):
        heads = torch.randperm(config.heads, generator=generator)[:, None] * config.head_size
        for space in ("queries", "values"):
            inner = torch.stack([torch.randperm(config.head_size, generator=generator) for _ in heads])
            if space == "queries" and config.rotary:
                inner = torch.arange(config.head_size).expand_as(inner)
            orders[f"layers.{layer}.{space}"] = (heads + inner).flatten()
        orders[f"layers.{layer}.neurons"] = torch.randperm(config.intermediate_size, generator=generator)
    return orders


def shuffled(checkpoint: Checkpoint, residual: bool = False, seed: int = 0) -> Checkpoint:
    config = checkpoint.encoder.config
    orders = shuffles(config, residual, torch.Generator().manual_seed(seed))
    weights = weights_of(checkpoint.encoder, checkpoint.head)
    encoder, head = model_of(config, select(weights, spaces_of(config), orders))
    return replace(checkpoint, encoder=encoder, head=head, name="shuffled")


def logits(checkpoint: Checkpoint, batch: Any) -> torch.Tensor:
    assert checkpoint.head is not None
    return checkpoint.head(checkpoint.encoder(batch), checkpoint.encoder.token_embedding.weight)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_units_in_another_order_compute_the_same(family: str, model: Any, batch: Any) -> None:
    source = model(shape(family, heads=4))
    other = shuffled(source)
    assert not torch.equal(other.encoder.layers[0].mlp.up.weight, source.encoder.layers[0].mlp.up.weight)
    torch.testing.assert_close(other.encoder(batch), source.encoder(batch), atol=1e-5, rtol=1e-5)
    moved = shuffled(source, residual=True)
    torch.testing.assert_close(logits(moved, batch), logits(source, batch), atol=2e-5, rtol=1e-4)
    assert (moved.encoder(batch) - source.encoder(batch)).abs().max() > 0.1


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_shuffled_model_finds_back(family: str, residual: bool, model: Any) -> None:
    source = model(shape(family, heads=4))
    found = aligned(source, shuffled(source, residual), residual)
    ours = weights_of(found.encoder, found.head)
    for name, tensor in weights_of(source.encoder, source.head).items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_an_aligned_model_computes_what_it_did_and_is_nearer(
    family: str, residual: bool, model: Any, batch: Any
) -> None:
    reference = model(shape(family, heads=4))
    other = shuffled(model(shape(family, heads=4)), seed=1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for parameter in other.encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    found = aligned(reference, other, residual)
    torch.testing.assert_close(logits(found, batch), logits(other, batch), atol=5e-5, rtol=1e-4)
    ours, *others = (weights_of(m.encoder, m.head) for m in (reference, found, other))
    distances = [sum(float((ours[name] - w).square().sum()) for name, w in theirs.items()) for theirs in others]
    assert distances[0] < distances[1]


def test_the_barrier_half_way_falls(model: Any, masked_loss: Any) -> None:
    loss = masked_loss(shape("bert"))

    def trained(start: Checkpoint, steps: int, rate: float) -> Checkpoint:
        optimiser = torch.optim.AdamW([*start.encoder.parameters(), *start.head.parameters()], lr=rate)
        for step in range(steps):
            loss(start.encoder, start.head, step).backward()
            optimiser.step()
            optimiser.zero_grad()
        return start

    def value(checkpoint: Checkpoint) -> float:
        with torch.no_grad():
            return float(loss(checkpoint.encoder, checkpoint.head, 0))

    first = trained(model(shape("bert")), 40, 3e-3)
    second = shuffled(trained(trained(model(shape("bert")), 40, 3e-3), 20, 1e-3))
    before = midpoint_barrier(first, second, value)
    after = midpoint_barrier(first, aligned(first, second), value)
    assert before > 0.2
    assert after < 0.05


def test_main_directions_agree_after_alignment(model: Any) -> None:
    source = model(shape("bert"))
    other = shuffled(source)
    assert direction_agreement(source, source) == pytest.approx(1, abs=1e-4)
    assert abs(direction_agreement(source, other)) < 0.3
    assert direction_agreement(source, aligned(source, other)) == pytest.approx(1, abs=1e-4)


def test_models_of_other_shapes_are_refused(model: Any) -> None:
    with pytest.raises(ModelError, match="different shapes"):
        aligned(model(shape("bert")), model(shape("bert", intermediate_size=44)))
