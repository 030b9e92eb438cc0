"""Every operator that claims to preserve the function does, whatever the registry holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.growth.examples import CASES, EXAMPLES, WIDE, Example, operator, shape, shapes

from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.growth.registry import GROWTH
from corpusmith.model.pooling import pool

CLAIMING = [case for case in CASES if case.values[1].preserves]


def test_every_operator_has_examples() -> None:
    assert set(EXAMPLES) == set(GROWTH)


@pytest.mark.parametrize(("kind", "example", "family"), CASES)
def test_an_operator_claims_to_preserve_the_function_where_it_should(kind: str, example: Example, family: str) -> None:
    source, target = shapes(kind, example, family)
    built = operator(kind, **example.options)
    built.check(source, target)
    assert built.preserves_function(source, target) == example.preserves


@pytest.mark.parametrize(("kind", "sizes"), [("identity", {"layers": 4}), ("fpi", WIDE)])
def test_vectors_that_are_cut_are_preserved_too(kind: str, sizes: dict[str, int], model: Any, batch: Any) -> None:
    source = replace(model(shape("bert")), cut_dimension=10)
    given = GrowthInput(source, shape("bert", **sizes), torch.Generator().manual_seed(1))
    grown = grown_checkpoint(operator(kind), given)
    assert grown.dimension == 10
    before, after = (pool(m.encoder(batch), batch, "mean")[:, : m.dimension] for m in (source, grown))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "example", "family"), CLAIMING)
def test_what_claims_to_preserve_the_function_does(
    kind: str, example: Example, family: str, model: Any, batch: Any
) -> None:
    small, target = shapes(kind, example, family)
    source = model(small)
    given = GrowthInput(source, target, torch.Generator().manual_seed(1))
    grown = grown_checkpoint(operator(kind, **example.options), given)
    with torch.no_grad():
        before, after = source.encoder(batch), grown.encoder(batch)
        logits = source.head(before, source.encoder.token_embedding.weight)
        grown_logits = grown.head(after, grown.encoder.token_embedding.weight)
    distances = (before[:, :, None] - after[:, None, :]).abs().amax(dim=0)
    assert distances.amin(dim=1).max() < 1e-5, "a state of the source is nowhere to be found"
    assert torch.minimum(distances.amin(dim=0), after.abs().amax(dim=0)).max() < 1e-5, "a state is of no source"
    torch.testing.assert_close(grown_logits, logits, atol=1e-5, rtol=1e-5)
