"""A run of training in a temporary folder, whose parts tests may choose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.huggingface import export_checkpoint
from corpusmith.objective.config import MaskedLanguageConfig
from corpusmith.objective.registry import build_objective
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.loop import TrainingResult, train


@pytest.fixture
def run(tiny_checkpoint: Callable[..., Any], tiny_data: Any) -> Callable[..., tuple[TrainingResult, Any]]:
    """Trains the tiny checkpoint in `folder`; gives the result and the encoder."""

    def start(
        folder: Path,
        objective: Any = None,
        tokens: int = 3000,
        budget: BudgetConfig | None = None,
        seed: int = 3,
        validate: Any = None,
        report: Any = None,
        **options: Any,
    ) -> tuple[TrainingResult, Any]:
        checkpoint = tiny_checkpoint()
        built = build_objective(objective or MaskedLanguageConfig(), tiny_data, checkpoint, seed)
        config = TrainingConfig(**({"batch_tokens": 128, "precision": "float32", "learning_rate": 1e-3} | options))
        budget = budget or BudgetConfig(tokens=tokens)
        result = train(checkpoint.encoder, built, config, budget, folder, seed, validate, report)
        return result, checkpoint.encoder

    return start


@pytest.fixture
def teacher(tiny_checkpoint: Callable[..., Any], tmp_path: Path) -> Path:
    """A folder with a model of the tiny one's shape and a head, of other weights."""
    start = tiny_checkpoint()
    generator = torch.Generator().manual_seed(11)
    config = start.encoder.config
    parts = vars(start) | {"encoder": Encoder(config, generator), "head": MaskedLanguageHead(config, generator)}
    folder = tmp_path / "teacher"
    folder.mkdir()
    export_checkpoint(Checkpoint(**parts, name="teacher", hf_config=config.to_hugging_face()), folder, with_head=True)
    return folder
