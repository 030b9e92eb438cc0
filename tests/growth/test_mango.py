from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.growth.examples import operator, shape

from corpusmith.errors import ModelError
from corpusmith.growth.config import MangoConfig
from corpusmith.growth.mango import Mango
from corpusmith.growth.weights import weights_of


def ring(source: Any, target: Any, **options: Any) -> Any:
    weights = weights_of(source.encoder, source.head)
    return Mango(MangoConfig(**options)).maker(weights, source.encoder.config, target, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("rank", [1, 2])
def test_every_weight_is_the_rings_sum_over_all_weights(family: str, rank: int, model: Any) -> None:
    maker = ring(
        model(shape(family)), shape(family, hidden_size=36, heads=3, intermediate_size=108, layers=4), rank=rank
    )
    cores = (maker.types, maker.outputs, maker.layers, maker.inputs)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for core in cores:
            core.copy_(torch.randn(core.shape, generator=generator))
        types, outputs, layers, inputs = (core[:, n].double() for core, n in zip(cores, (5, 7, 3, 11), strict=True))
        tensor = maker.tensor.double()
        expected = torch.einsum("pbq,qor,rls,sip,lboi->", types, outputs, layers, inputs, tensor)
        made = maker()
    # Block 5 is the second of the feed-forward part's way up: its rows begin behind one block.
    found = made["encoder.layers.3.mlp.up.weight"][36 + 7, 11]
    torch.testing.assert_close(found.double(), expected, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_cutting_and_joining_again_changes_nothing(family: str, model: Any) -> None:
    source = model(shape(family))
    maker = ring(source, shape(family), noise=0)
    made = maker()
    for name, weight in weights_of(source.encoder, source.head).items():
        torch.testing.assert_close(made[name], weight, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "source", "target", "message"),
    [
        ("bert", {"intermediate_size": 50}, {"intermediate_size": 72}, "50 is no multiple of 24"),
        ("bert", {}, {"hidden_size": 36, "heads": 3, "intermediate_size": 52}, "52 is no multiple of 36"),
        ("bert", {}, {"hidden_size": 48}, "2 blocks .* the target has 1; choose an intermediate_size of 96"),
        ("modernbert", {}, {"hidden_size": 48, "intermediate_size": 96}, "have 12 dimensions and the target's 24"),
    ],
)
def test_shapes_that_do_not_fit_into_the_tensor_are_refused(
    family: str, source: dict[str, int], target: dict[str, int], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        operator("mango").check(shape(family, **source), shape(family, **(source | target)))
