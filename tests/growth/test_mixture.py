from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.growth.examples import ODD, WIDE, operator, shape

from corpusmith.errors import ModelError
from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.growth.config import MixtureConfig
from corpusmith.growth.mixture import Mixture


def grow(kind: str, source: Any, target: Any, **options: Any) -> Any:
    given = GrowthInput(source, target, torch.Generator().manual_seed(1))
    return grown_checkpoint(operator(kind, **options), given).encoder


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
@pytest.mark.parametrize("sizes", [WIDE, ODD])
def test_without_novelty_it_copies(family: str, sizes: dict[str, int], model: Any) -> None:
    source, target = model(shape(family)), shape(family, **sizes)
    found, copied = grow("mixture", source, target, novelty=0), grow("fpi", source, target, noise=0)
    for name, weight in found.state_dict().items():
        torch.testing.assert_close(weight, copied.state_dict()[name], atol=1e-6, rtol=1e-6)


def test_the_first_block_is_the_old_weight_and_the_others_are_mixtures_of_the_layers(model: Any) -> None:
    source, target = model(shape("bert")), shape("bert", **WIDE)
    found = grow("mixture", source, target, novelty=0.5).layers[1].mlp.up.weight.detach() * 2
    templates = torch.stack([layer.mlp.up.weight.detach() for layer in source.encoder.layers])
    blocks = [
        found[rows, columns] for rows in (slice(0, 48), slice(48, 96)) for columns in (slice(0, 24), slice(24, 48))
    ]
    torch.testing.assert_close(blocks[0], templates[1], atol=1e-6, rtol=1e-6)
    for block in blocks[1:]:
        mixture = torch.linalg.lstsq(templates.flatten(1).T, block.flatten()[:, None]).solution.flatten()
        torch.testing.assert_close(torch.tensordot(mixture, templates, 1), block, atol=1e-5, rtol=1e-5)
        assert float(mixture[1]) == pytest.approx(0.75**0.5, abs=1e-4)
        assert float(mixture.norm()) == pytest.approx(1.0, abs=1e-4)


def test_new_directions_are_orthogonal_as_far_as_there_are_layers() -> None:
    mixtures = Mixture(MixtureConfig(novelty=1.0)).coefficients(2, 7, 5, torch.Generator().manual_seed(0))
    assert mixtures.shape == (7, 5)
    assert not mixtures[:, 2].abs().gt(1e-6).any()
    torch.testing.assert_close(mixtures[:4] @ mixtures[:4].T, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(mixtures.norm(dim=1), torch.ones(7))


def test_an_added_layer_is_a_new_mixture_of_the_one_it_begins_as(model: Any) -> None:
    source = model(shape("bert"))
    grown = grow("mixture", source, shape("bert", layers=5), novelty=0.4)
    old = [layer.mlp.down.weight for layer in source.encoder.layers]
    new = [layer.mlp.down.weight for layer in grown.layers]
    assert all(torch.equal(a, b) for a, b in zip(old, new[:3], strict=True))
    for home in (0, 1):
        assert 0.05 < (new[3 + home] - old[home]).norm() / old[home].norm() < 0.6
        assert torch.equal(grown.layers[3 + home].mlp_norm.weight, source.encoder.layers[home].mlp_norm.weight)


def test_the_less_novelty_the_nearer_the_function(model: Any, batch: Any) -> None:
    source, target = model(shape("bert")), shape("bert", **WIDE)
    before = source.encoder(batch)
    far = []
    for novelty in (0.1, 0.4, 1.0):
        after = grow("mixture", source, target, novelty=novelty)(batch)[:, :24]
        far.append(float((after - before).detach().norm()))
    assert far[0] < far[1] < far[2]


def test_one_layer_is_nothing_to_mix() -> None:
    with pytest.raises(ModelError, match="the source has one alone"):
        operator("mixture").check(shape("bert", layers=1), shape("bert", **(WIDE | {"layers": 1})))
