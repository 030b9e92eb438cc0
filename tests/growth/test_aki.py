from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.growth.examples import WIDE, operator, shape

from corpusmith.growth.base import GrowthInput, grown_checkpoint


def grow(kind: str, source: Any, target: Any) -> dict[str, torch.Tensor]:
    given = GrowthInput(source, target, torch.Generator().manual_seed(1))
    return grown_checkpoint(operator(kind, noise=0), given).encoder.state_dict()


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_added_rows_are_those_of_the_layer_above(family: str, model: Any) -> None:
    source = model(shape(family))
    found, copied = (grow(kind, source, shape(family, **WIDE)) for kind in ("aki", "fpi"))
    for name in ("attention.qkv.weight", "attention.output.weight", "mlp.up.weight", "mlp.down.weight"):
        parts = {"attention.qkv.weight": 3, "mlp.up.weight": 2 if family == "modernbert" else 1}.get(name, 1)
        for layer in range(3):
            above = min(layer + 1, 2)
            blocks = (
                found[f"layers.{layer}.{name}"],
                copied[f"layers.{layer}.{name}"],
                copied[f"layers.{above}.{name}"],
            )
            for made, own, upper in zip(*(block.chunk(parts) for block in blocks), strict=True):
                half = len(made) // 2
                assert torch.equal(made[:half], own[:half]), name
                assert torch.equal(made[half:], upper[half:]), name


def test_biases_go_with_their_rows_and_norms_and_embeddings_stay_copies(model: Any) -> None:
    source, target = model(shape("bert")), shape("bert", **WIDE)
    found, copied = grow("aki", source, target), grow("fpi", source, target)
    assert torch.equal(found["layers.0.mlp.up.bias"][48:], copied["layers.1.mlp.up.bias"][48:])
    assert not torch.equal(found["layers.0.mlp.up.bias"], copied["layers.0.mlp.up.bias"])
    kept = [name for name in found if "norm" in name or "embeddings" in name or name.startswith("layers.2")]
    assert all(torch.equal(found[name], copied[name]) for name in kept)


def test_where_all_layers_are_alike_it_copies(model: Any) -> None:
    source, target = model(shape("roberta")), shape("roberta", hidden_size=36, heads=3, intermediate_size=52)
    for layer in source.encoder.layers[1:]:
        layer.load_state_dict(source.encoder.layers[0].state_dict())
    found, copied = grow("aki", source, target), grow("fpi", source, target)
    assert all(torch.equal(weight, copied[name]) for name, weight in found.items())
