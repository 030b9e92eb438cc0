from __future__ import annotations

from typing import Any

import torch
from tests.growth.examples import ODD, shape

from corpusmith.growth.config import LiGOConfig
from corpusmith.growth.ligo import LiGO
from corpusmith.growth.weights import weights_of


def test_weights_are_products_with_the_maps_of_their_axes_mixed_over_layers(model: Any) -> None:
    source, target = model(shape("bert")), shape("bert", **(ODD | {"layers": 4}))
    maker = LiGO(LiGOConfig()).maker(
        weights_of(source.encoder, source.head), source.encoder.config, target, torch.Generator()
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in maker.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    made, width, depth = maker(), maker.width, maker.depth
    layers = source.encoder.layers
    expected = sum(
        depth["mlp_down_weight"][0, 3, i] * (width["to_stream"] @ layers[i].mlp.down.weight @ width["from_inner"].T)
        for i in range(3)
    )
    torch.testing.assert_close(made["encoder.layers.3.mlp.down.weight"], expected, atol=1e-3, rtol=1e-4)
    keys = sum(
        depth["attention_qkv_bias"][1, 2, i] * (width["to_key"] @ layers[i].attention.qkv.bias[24:48]) for i in range(3)
    )
    torch.testing.assert_close(made["encoder.layers.2.attention.qkv.bias"][36:72], keys, atol=1e-3, rtol=1e-4)
    tokens = source.encoder.token_embedding.weight @ width["to_stream"].T
    torch.testing.assert_close(made["encoder.embeddings.tokens.weight"], tokens)
    assert torch.equal(made["head.bias"], source.head.bias)


def test_it_begins_with_the_sources_layers_stacked(model: Any) -> None:
    source = model(shape("modernbert"))
    maker = LiGO(LiGOConfig()).maker(
        weights_of(source.encoder, source.head), source.encoder.config, shape("modernbert", layers=5), torch.Generator()
    )
    made = maker()
    assert torch.equal(made["encoder.layers.3.mlp.up.weight"], source.encoder.layers[1].mlp.up.weight)
    assert torch.equal(made["encoder.layers.4.mlp.up.weight"], source.encoder.layers[0].mlp.up.weight)
    # The first layer's attention has no norm of its own: the embeddings' stands there.
    assert torch.equal(made["encoder.layers.4.attention_norm.weight"], source.encoder.embeddings.norm.weight)
