"""What objectives keep beside the encoder, and how training goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from corpusmith.errors import ModelError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.objective.config import MaskedLanguageConfig, RetroMAEConfig
from corpusmith.objective.registry import build_objective, save_parts
from corpusmith.training.config import TrainingConfig
from corpusmith.training.optimiser import build_optimiser


@pytest.fixture
def trained(tiny_checkpoint: Any, tiny_data: Any, tmp_path: Path) -> tuple[Any, Checkpoint]:
    """A RetroMAE objective whose weights were changed, and the checkpoint it was saved beside, loaded again."""
    start = Checkpoint(**vars(tiny_checkpoint()), name="tiny", hf_config={})
    objective = build_objective(RetroMAEConfig(), tiny_data, start, seed=0)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(1.0)
    export_checkpoint(start, tmp_path)
    save_parts(objective, "retromae", tmp_path)
    return objective, load_checkpoint(tmp_path)


def test_decoder_and_head_go_on_from_where_they_were(trained: Any, tiny_data: Any) -> None:
    objective, checkpoint = trained
    again = build_objective(RetroMAEConfig(), tiny_data, checkpoint, seed=5)
    assert again.continued
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    groups = build_optimiser(checkpoint.encoder, again, TrainingConfig(learning_rate=1.0, fresh_learning_rate=2.0))
    assert {group["peak"] for group in groups.param_groups} == {1.0}


def test_the_head_serves_other_objectives_too(trained: Any, tiny_data: Any) -> None:
    objective, checkpoint = trained
    other = build_objective(MaskedLanguageConfig(), tiny_data, checkpoint, seed=5)
    assert torch.equal(other.head.dense.weight, objective.head.dense.weight)


def test_parts_travel_with_an_export(trained: Any, tmp_path: Path) -> None:
    _, checkpoint = trained
    folder = tmp_path / "again"
    folder.mkdir()
    export_checkpoint(checkpoint, folder)
    assert load_checkpoint(folder).parts.keys() == {"head", "retromae"}


def test_parts_of_another_size_are_named(trained: Any, tiny_data: Any) -> None:
    _, checkpoint = trained
    save_file({"decoder.norm.weight": torch.zeros(3)}, checkpoint.parts["retromae"])
    with pytest.raises(ModelError, match="its parts have other names or sizes"):
        build_objective(RetroMAEConfig(), tiny_data, checkpoint, seed=0)


def test_damaged_parts_are_named(trained: Any, tiny_data: Any) -> None:
    _, checkpoint = trained
    checkpoint.parts["retromae"].write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="remove the file to begin these parts anew"):
        build_objective(RetroMAEConfig(), tiny_data, checkpoint, seed=0)
