"""Stacking, interleaving, depth up-scaling, and choices of layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.growth.examples import shape

from corpusmith.errors import ModelError
from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.growth.choose_layers import ChooseLayers
from corpusmith.growth.depth import LayerCopies
from corpusmith.growth.depth_upscaling import DepthUpscaling
from corpusmith.growth.interleave import Interleave
from corpusmith.growth.options.depth import DepthUpscalingConfig, InterleaveConfig, StackConfig
from corpusmith.growth.options.smaller import ChooseLayersConfig
from corpusmith.growth.stack import FACTOR, MIDDLE_SHARE, Stack, guidance
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint

STACK, INTERLEAVE = Stack(StackConfig()), Interleave(InterleaveConfig())
UPSCALE = DepthUpscaling(DepthUpscalingConfig())


def choice(which: str) -> ChooseLayers:
    return ChooseLayers(ChooseLayersConfig.model_validate({"which": which}))


def grow(operator: LayerCopies, source: Any, layers: int) -> Any:
    target = operator.shape(source.encoder.config, layers)
    return grown_checkpoint(operator, GrowthInput(source, target, torch.Generator()))


@pytest.mark.parametrize(
    ("operator", "source", "target", "expected"),
    [
        (STACK, 3, 6, [0, 1, 2, 0, 1, 2]),
        (STACK, 1, 3, [0, 0, 0]),
        (INTERLEAVE, 3, 6, [0, 0, 1, 1, 2, 2]),
        (INTERLEAVE, 3, 5, [0, 0, 1, 1, 2]),
        (UPSCALE, 4, 6, [0, 1, 2, 1, 2, 3]),
        (UPSCALE, 32, 48, [*range(24), *range(8, 32)]),
        (choice("first"), 12, 4, [0, 1, 2, 3]),
        (choice("last"), 12, 4, [8, 9, 10, 11]),
        (choice("ends"), 12, 5, [0, 1, 2, 10, 11]),
        (choice("spread"), 12, 6, [0, 2, 4, 7, 9, 11]),
        (choice("spread"), 12, 1, [0]),
        (choice("ends"), 3, 1, [0]),
    ],
)
def test_layers_are_copies_of_those_that_the_paper_names(
    operator: LayerCopies, source: int, target: int, expected: list[int]
) -> None:
    assert operator.numbers(source, target) == expected


@pytest.mark.parametrize("source", range(2, 40))
def test_an_even_choice_takes_no_layer_twice(source: int) -> None:
    for target in range(1, source):
        numbers = choice("spread").numbers(source, target)
        assert len(set(numbers)) == target
        assert numbers == sorted(numbers)
        assert target == 1 or (numbers[0], numbers[-1]) == (0, source - 1)


@pytest.mark.parametrize(
    ("operator", "layers"), [(STACK, 6), (INTERLEAVE, 5), (UPSCALE, 4), (choice("spread"), 2), (choice("last"), 2)]
)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_all_else_is_carried_over_and_nothing_is_shared(
    operator: LayerCopies, layers: int, family: str, model: Any, batch: Any, tmp_path: Path
) -> None:
    source = model(shape(family))
    grown = grow(operator, source, layers)
    numbers = operator.numbers(3, layers)
    before, after = source.encoder.state_dict(), grown.encoder.state_dict()
    compared = 0
    for name, tensor in after.items():
        part, _, rest = name.partition(".")
        if part == "layers":
            place, _, inner = rest.partition(".")
            theirs = before.get(f"layers.{numbers[int(place)]}.{inner}")
            if theirs is None:  # the lowest layer's norm, where norms stand first
                theirs = before["embeddings.norm.weight"]
                assert numbers[int(place)] == 0
                assert inner == "attention_norm.weight"
        else:
            theirs = before[name]
        assert torch.equal(tensor, theirs), name
        assert tensor.data_ptr() != theirs.data_ptr()
        compared += 1
    assert compared == len(after)
    assert all(torch.equal(w, source.head.state_dict()[name]) for name, w in grown.head.state_dict().items())
    assert all(parameter.requires_grad for parameter in grown.encoder.parameters())
    export_checkpoint(grown, tmp_path, with_head=True)
    again = load_checkpoint(tmp_path)
    torch.testing.assert_close(again.encoder(batch), grown.encoder(batch))


def test_a_lowest_layer_further_up_reads_what_the_embeddings_norm_would_give_it(model: Any, batch: Any) -> None:
    source = model(shape("modernbert"))
    grown = grow(STACK, source, 6)
    bottom, copied = grown.encoder.layers[0], grown.encoder.layers[3]
    states = source.encoder.hidden_states(batch, (3,))[0]
    torch.testing.assert_close(copied.attention_norm(states), source.encoder.embeddings.norm(states))
    assert isinstance(bottom.attention_norm, torch.nn.Identity)


def test_a_layer_keeps_its_window(model: Any) -> None:
    source = model(shape("modernbert"))
    assert grow(STACK, source, 6).encoder.config.windowed == (False, True, False, False, True, False)
    wanted = replace(source.encoder.config, layers=6, windowed=(False, True) * 3)
    with pytest.raises(ModelError, match=r"layer 4 would be a copy of layer 1, which sees all tokens"):
        STACK.check(source.encoder.config, wanted)


@pytest.mark.parametrize(
    ("operator", "layers", "message"),
    [
        (STACK, 4, "grows to 6, 9 or another multiple of 3"),
        (STACK, 3, "multiple"),
        (INTERLEAVE, 3, "more layers than 3"),
        (UPSCALE, 5, "even number between 3 and 6"),
        (UPSCALE, 6, "even number between 3 and 6"),
        (choice("first"), 3, "has fewer of them"),
        (choice("first"), 0, "has fewer of them"),
    ],
)
def test_numbers_of_layers_that_an_operator_cannot_make_are_refused(
    operator: LayerCopies, layers: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        operator.shape(shape("bert"), layers)


def test_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match="another hidden_size and intermediate_size"):
        STACK.check(shape("bert"), shape("bert", layers=6, hidden_size=48, intermediate_size=96))


def test_the_guidance_is_the_papers_fit_within_its_range() -> None:
    found = guidance(parameters=1.1e9, flops=4e20)
    assert found.fitted
    assert found.factor == 4
    assert found.tokens == pytest.approx(1.385e10, rel=2e-3)
    assert found.share == pytest.approx(6 * 1.1e9 / 4 * found.tokens / 4e20)
    assert guidance(parameters=1.1e9, flops=4.5e20).share == pytest.approx(MIDDLE_SHARE, abs=0.003)


@pytest.mark.parametrize(("parameters", "flops"), [(1e7, 1e15), (1.1e9, 1e22), (7e9, 1e21), (1e7, 5e20)])
def test_the_guidance_says_where_it_is_no_longer_the_papers(parameters: float, flops: float) -> None:
    found = guidance(parameters, flops)
    assert not found.fitted
    assert found.share == MIDDLE_SHARE
    assert 6 * parameters / FACTOR * found.tokens == pytest.approx(MIDDLE_SHARE * flops)


def test_nothing_is_said_of_models_without_parameters() -> None:
    with pytest.raises(ValueError, match="above 0"):
        guidance(0, 1e20)
