"""What must be true of whatever any operator makes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.growth.examples import CASES, Example, operator, shapes

from corpusmith.growth.base import GrowthInput, grown_checkpoint
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.objective.config import MaskedLanguageConfig
from corpusmith.objective.registry import build_objective
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.log import StepRecord
from corpusmith.training.loop import train


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


class PowerCut(BaseException):
    """No code may catch it."""


@pytest.mark.parametrize(("kind", "example", "family"), CASES)
def test_whatever_comes_out_trains_on_resumes_and_is_exported(
    kind: str, example: Example, family: str, grow: Any, masked_loss: Any, tiny_data: Any, batch: Any, tmp_path: Path
) -> None:
    _, grown = grow(kind, example, family)
    loss = masked_loss(grown.encoder.config)

    def run(folder: str, last: int | None = None) -> Any:
        checkpoint = deepcopy(grown)

        def cut(record: Any) -> None:
            if isinstance(record, StepRecord) and record.step == last:
                raise PowerCut

        objective = build_objective(MaskedLanguageConfig(), tiny_data, checkpoint, seed=3)
        config = TrainingConfig(batch_tokens=256, precision="float32", learning_rate=1e-3, checkpoint_minutes=0)
        train(checkpoint.encoder, objective, config, BudgetConfig(tokens=700), tmp_path / folder, 3, report=cut)
        return checkpoint

    whole = run("whole")
    with pytest.raises(PowerCut):
        run("cut", last=2)
    resumed = run("cut")
    assert all(torch.equal(w, weights(resumed)[name]) for name, w in weights(whole).items())
    before, after = (loss(checkpoint.encoder, checkpoint.head, 0).item() for checkpoint in (grown, resumed))
    assert after < before

    (tmp_path / "model").mkdir()
    export_checkpoint(resumed, tmp_path / "model", with_head=True)
    again = load_checkpoint(tmp_path / "model")
    assert (again.max_tokens, again.pooling) == (grown.max_tokens, grown.pooling)
    assert all(torch.equal(w, weights(again)[name]) for name, w in weights(resumed).items())
    torch.testing.assert_close(again.encoder(batch), resumed.encoder(batch))
