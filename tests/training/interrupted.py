"""Training cut off and gone on with, for whatever is to be trained."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.huggingface import export_checkpoint, load_checkpoint
from corpusmith.model.packed import pack
from corpusmith.objective.config import MaskedLanguageConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.registry import build_objective
from corpusmith.training.budget import BudgetConfig
from corpusmith.training.config import TrainingConfig
from corpusmith.training.log import StepRecord
from corpusmith.training.loop import train


class PowerCut(BaseException):
    """No code may catch it."""


def cut_after(step: int) -> Callable[[Any], None]:
    """To be told of a run's records: ends it after this step, before its checkpoint is written."""

    def report(record: Any) -> None:
        if isinstance(record, StepRecord) and record.step == step:
            raise PowerCut

    return report


def assert_trains_resumes_and_exports(start: Checkpoint, data: TrainingData, folder: Path) -> Checkpoint:
    """Hold a checkpoint with a head to it that the loop trains it, that a run cut off ends with the same weights as one
    that was not, and that the export of them computes what they do; gives what was trained."""

    def run(name: str, report: Callable[[Any], None] | None = None) -> Checkpoint:
        checkpoint = deepcopy(start)
        objective = build_objective(MaskedLanguageConfig(), data, checkpoint, seed=3)
        config = TrainingConfig(batch_tokens=256, precision="float32", learning_rate=1e-3, checkpoint_minutes=0)
        train(checkpoint.encoder, objective, config, BudgetConfig(tokens=700), folder / name, 3, report=report)
        return checkpoint

    whole = run("whole")
    with pytest.raises(PowerCut):
        run("cut", cut_after(2))
    resumed = run("cut")
    assert not torch.equal(whole.encoder.token_embedding.weight, start.encoder.token_embedding.weight)
    assert_same_weights(whole, resumed)

    (folder / "model").mkdir()
    export_checkpoint(resumed, folder / "model", with_head=True)
    again = load_checkpoint(folder / "model")
    assert again.tokenizer.fingerprint == start.tokenizer.fingerprint
    assert (again.max_tokens, again.pooling) == (start.max_tokens, start.pooling)
    assert_same_weights(resumed, again)
    batch = pack([np.arange(5, 5 + length) for length in (1, 7, 30)])
    torch.testing.assert_close(again.encoder(batch), resumed.encoder(batch))
    return resumed


def assert_same_weights(one: Checkpoint, other: Checkpoint) -> None:
    """The same weights bit by bit, in encoder and head."""
    for ours, theirs in ((one.encoder, other.encoder), (one.head, other.head)):
        assert ours is not None
        assert theirs is not None
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name
