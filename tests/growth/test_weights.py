from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.growth.examples import FAMILIES, shape

from corpusmith.growth.weights import layer_names, layer_of, layer_stacks, model_of, outside_layers, weights_of


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_weights_owns_float32_copies_of_those_that_it_has_a_place_for(family: str, model: Any) -> None:
    source = model(shape(family))
    weights = weights_of(source.encoder, source.head)
    assert not any(weight.requires_grad for weight in weights.values())
    halves = {name: weight.half() for name, weight in weights.items()}
    encoder, head = model_of(source.encoder.config, halves | {"encoder.layers.9.mlp.up.weight": torch.zeros(1)})
    assert head is not None
    for name, weight in weights_of(encoder, head).items():
        assert torch.equal(weight, halves.pop(name).float()), name
    assert halves == {}
    again = weights_of(*model_of(source.encoder.config, weights))
    assert all(weight.data_ptr() != weights[name].data_ptr() for name, weight in again.items())
    assert all(parameter.requires_grad for parameter in (*encoder.parameters(), *head.parameters()))


def test_there_is_a_head_where_weights_for_one_are(model: Any) -> None:
    source = model(shape("bert"))
    assert model_of(source.encoder.config, weights_of(source.encoder, None))[1] is None


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_outside_of_layers_and_a_stack_for_each_inside(family: str, model: Any) -> None:
    source = model(shape(family))
    weights, names = weights_of(source.encoder, source.head), layer_names(shape(family))
    outside = outside_layers(weights)
    assert {name for name in weights if layer_of(name)[1] in names} == weights.keys() - outside.keys()
    stacks = layer_stacks(weights, 3, names)
    for name in weights.keys() - outside.keys():
        layer, rest = layer_of(name)
        assert torch.equal(stacks[rest][layer], weights[name]), name
    first = source.encoder.embeddings.norm if family == "modernbert" else source.encoder.layers[0].attention_norm
    assert torch.equal(stacks["attention_norm.weight"][0], first.weight)
