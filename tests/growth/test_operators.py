"""What must be true of whatever any operator makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.growth.examples import CASES, Example, operator, shapes
from tests.training.interrupted import assert_trains_resumes_and_exports

from corpusmith.growth.base import GrowthInput, grown_checkpoint


def weights(checkpoint: Any) -> dict[str, torch.Tensor]:
    parts = {"encoder": checkpoint.encoder, "head": checkpoint.head}
    return {f"{part}.{name}": w for part, module in parts.items() for name, w in module.state_dict().items()}


@pytest.fixture
def grow(model: Any, masked_loss: Any) -> Any:
    """Grows an example; gives source and grown model."""

    def run(kind: str, example: Example, family: str, seed: int = 1) -> tuple[Any, Any]:
        shape, target = shapes(kind, example, family)
        source = model(shape)
        given = GrowthInput(source, target, torch.Generator().manual_seed(seed), masked_loss(target))
        return source, grown_checkpoint(operator(kind, **example.options), given)

    return run


@pytest.mark.parametrize(("kind", "example", "family"), CASES)
def test_a_grown_model_has_the_shape_asked_for_and_weights_of_its_own(
    kind: str, example: Example, family: str, grow: Any, model: Any
) -> None:
    source, grown = grow(kind, example, family)
    shape, target = shapes(kind, example, family)
    expected, found = weights(model(target)), weights(grown)
    assert grown.encoder.config == target
    assert {name: w.shape for name, w in found.items()} == {name: w.shape for name, w in expected.items()}
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in found.values())
    assert all(p.requires_grad and p.grad is None for p in (*grown.encoder.parameters(), *grown.head.parameters()))
    assert not {w.data_ptr() for w in weights(source).values()} & {w.data_ptr() for w in found.values()}
    untouched = weights(model(shape))
    assert all(torch.equal(w, untouched[name]) for name, w in weights(source).items())


@pytest.mark.parametrize(("kind", "example", "family"), CASES)
def test_growing_again_gives_the_same_model(kind: str, example: Example, family: str, grow: Any) -> None:
    first, second = (weights(grow(kind, example, family)[1]) for _ in range(2))
    assert all(torch.equal(w, second[name]) for name, w in first.items())


@pytest.mark.parametrize(("kind", "example", "family"), CASES)
def test_whatever_comes_out_trains_on_resumes_and_is_exported(
    kind: str, example: Example, family: str, grow: Any, masked_loss: Any, tiny_data: Any, tmp_path: Path
) -> None:
    _, grown = grow(kind, example, family)
    loss = masked_loss(grown.encoder.config)
    trained = assert_trains_resumes_and_exports(grown, tiny_data, tmp_path)
    before, after = (loss(checkpoint.encoder, checkpoint.head, 0).item() for checkpoint in (grown, trained))
    assert after < before
