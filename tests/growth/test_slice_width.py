from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.growth.examples import shape

from corpusmith.errors import ModelError
from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.growth.options.smaller import SliceWidthConfig
from corpusmith.growth.slice_width import SliceWidth
from corpusmith.growth.spaces import spaces_of
from corpusmith.growth.weights import weights_of
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint


def sliced(source: Any, target: Any, loss: Any = None, **options: Any) -> Any:
    given = GrowthInput(source, target, torch.Generator(), loss)
    return grown_checkpoint(SliceWidth(SliceWidthConfig(**options)), given)


def make_loud(checkpoint: Any, units: dict[str, torch.Tensor]) -> None:
    """Make all weights of these units of these spaces thirty times as large."""
    spaces = spaces_of(checkpoint.encoder.config)
    for name, tensor in weights_of(checkpoint.encoder, checkpoint.head).items():
        for number, along in enumerate(spaces[name]):
            for i, space in enumerate(along):
                if space in units:
                    rows = units[space] + i * (tensor.shape[number] // len(along))
                    tensor.movedim(number, 0)[rows] *= 30


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_every_axis_of_every_weight_is_as_long_as_the_spaces_along_it(family: str, model: Any) -> None:
    checkpoint = model(shape(family))
    spaces = spaces_of(checkpoint.encoder.config)
    sizes = {"hidden": 24, "queries": 24, "values": 24, "neurons": 48}
    weights = weights_of(checkpoint.encoder, checkpoint.head)
    assert weights.keys() == spaces.keys()
    for name, tensor in weights.items():
        assert tensor.ndim == len(spaces[name]), name
        for length, along in zip(tensor.shape, spaces[name], strict=True):
            assert along == (None,) or length == sum(sizes[space.rpartition(".")[2]] for space in along), name


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_neurons_without_weights_go_first_and_nobody_misses_them(family: str, model: Any, batch: Any) -> None:
    source = model(shape(family))
    halves = 2 if family == "modernbert" else 1
    with torch.no_grad():
        for number, layer in enumerate(source.encoder.layers):
            idle = torch.arange(number, 48, 4)
            rows = torch.cat([idle + 48 * half for half in range(halves)])
            layer.mlp.up.weight[rows] = 0
            layer.mlp.down.weight[:, idle] = 0
            if family == "bert":
                layer.mlp.up.bias[rows] = 0
    found = sliced(source, replace(source.encoder.config, intermediate_size=36))
    assert found.encoder.layers[0].mlp.down.weight.shape == (24, 36)
    torch.testing.assert_close(found.encoder(batch), source.encoder(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_heaviest_dimensions_and_heads_stay(family: str, model: Any, batch: Any, tmp_path: Path) -> None:
    source = model(shape(family, heads=4))
    kept = torch.tensor([1, 2, 5, 7, 8, 11, 13, 16, 18, 19, 21, 23])
    heads = torch.cat([torch.arange(6, 12), torch.arange(18, 24)])  # the second and the last of four
    inside = {f"layers.{layer}.{space}": heads for layer in range(3) for space in ("queries", "values")}
    make_loud(source, {"hidden": kept} | inside)
    found = sliced(source, replace(source.encoder.config, hidden_size=12, heads=2))
    torch.testing.assert_close(
        found.encoder.token_embedding.weight, source.encoder.token_embedding.weight[:, kept], atol=0, rtol=0
    )
    ours, theirs = found.encoder.layers[1].attention, source.encoder.layers[1].attention
    rows = torch.cat([heads, heads + 24, heads + 48])
    assert torch.equal(ours.qkv.weight, theirs.qkv.weight[rows][:, kept])
    assert torch.equal(ours.output.weight, theirs.output.weight[kept][:, heads])
    assert torch.equal(found.head.dense.weight, source.head.dense.weight[kept][:, kept])
    assert torch.equal(found.head.bias, source.head.bias)
    assert found.parts == {}
    cut = sliced(replace(source, cut_dimension=20), found.encoder.config)
    assert (cut.cut_dimension, cut.dimension) == (None, 12)
    export_checkpoint(found, tmp_path, with_head=True)
    torch.testing.assert_close(load_checkpoint(tmp_path).encoder(batch), found.encoder(batch))


def test_smaller_heads_keep_their_scores(model: Any) -> None:
    source = model(shape("bert"))
    with torch.no_grad():
        for layer in source.encoder.layers:
            rows = layer.attention.qkv.weight.view(3, 2, 12, 24)
            rows[:2, :, 3:9] *= 0.01  # queries and keys
            rows[2, :, :6] *= 0.01
            layer.attention.output.weight.view(24, 2, 12)[:, :, :6] *= 0.01
    found = sliced(source, replace(source.encoder.config, hidden_size=12))
    assert found.encoder.config.head_size == 6
    own = torch.arange(24)
    chosen = torch.cat([own[:3], own[9:15], own[21:]])  # what is left of queries and keys of both heads
    qkv = source.encoder.layers[0].attention.qkv
    kept = [
        number
        for number in range(24)
        if torch.isin(source.encoder.token_embedding.weight[:, number], found.encoder.token_embedding.weight).all()
    ]
    ours = found.encoder.layers[0].attention.qkv
    torch.testing.assert_close(ours.weight[:12], qkv.weight[chosen][:, kept] * 0.5**0.5)
    torch.testing.assert_close(ours.bias[:12], qkv.bias[chosen] * 0.5**0.5)
    assert torch.equal(ours.weight[12:24], qkv.weight[24 + chosen][:, kept])
    values = torch.cat([own[6:12], own[18:]])
    assert torch.equal(ours.weight[24:], qkv.weight[48 + values][:, kept])
    states = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    states[:, [number for number in range(24) if number not in kept]] = 0
    q, k = (states @ qkv.weight[start + chosen].T + qkv.bias[start + chosen] for start in (0, 24))
    q2, k2, _ = ours(states[:, kept]).chunk(3, dim=1)
    expected = (q[:, :6] @ k[:, :6].T) / 12**0.5
    torch.testing.assert_close((q2[:, :6] @ k2[:, :6].T) / 6**0.5, expected, atol=1e-5, rtol=1e-4)


def test_importance_by_loss_sees_what_magnitude_does_not(model: Any, masked_loss: Any) -> None:
    source = model(shape("bert"))
    with torch.no_grad():
        for layer in source.encoder.layers:  # loud, and heard by nobody
            layer.mlp.up.weight[:10] *= 20
            layer.mlp.down.weight[:, :10] = 0
    target = replace(source.encoder.config, intermediate_size=38)
    before = {name: tensor.clone() for name, tensor in source.encoder.state_dict().items()}
    by_loss = sliced(source, target, masked_loss(source.encoder.config), by="loss", batches=2)
    by_magnitude = sliced(source, target)
    loud = source.encoder.layers[1].mlp.up.weight[0]
    rows = [found.encoder.layers[1].mlp.up.weight for found in (by_loss, by_magnitude)]
    assert not (rows[0] == loud).all(dim=1).any()
    assert (rows[1] == loud).all(dim=1).any()
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in source.encoder.parameters())


def test_importance_by_loss_wants_a_loss_and_says_how_often(model: Any) -> None:
    source = model(shape("bert"))
    operator = SliceWidth(SliceWidthConfig(by="loss", batches=5))
    assert (operator.steps, SliceWidth(SliceWidthConfig()).steps) == (5, 0)
    with pytest.raises(ModelError, match="needs an objective"):
        operator.grow(GrowthInput(source, replace(source.encoder.config, hidden_size=12), torch.Generator()))


@pytest.mark.parametrize(
    ("family", "target", "message"),
    [
        ("bert", {"hidden_size": 48}, "hidden_size is 24, and 48 is wanted"),
        ("bert", {"heads": 1}, "head_size is 12, and 24 is wanted"),
        ("bert", {"hidden_size": 12, "layers": 2}, "differs in more"),
        ("modernbert", {"hidden_size": 12}, "keep all their 12 dimensions"),
    ],
)
def test_what_is_no_slice_is_refused(family: str, target: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        SliceWidth(SliceWidthConfig()).check(shape(family), shape(family, **target))
