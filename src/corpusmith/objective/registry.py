"""Which objectives there are: the one place that knows all of them.

A new objective is listed here and its options in `config.ObjectiveConfig`; nothing else has to change. Objectives are
named by module, and imported when one is built: checking a recipe needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from corpusmith.objective.config import ObjectiveConfig

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint
    from corpusmith.objective.base import Objective
    from corpusmith.objective.data import TrainingData

__all__ = ["OBJECTIVES", "ObjectiveConfig", "build_objective", "objective_class"]

OBJECTIVES = {
    "masked_language": ("corpusmith.objective.masked_language", "MaskedLanguage"),
    "retromae": ("corpusmith.objective.retromae", "RetroMAE"),
    "contrastive": ("corpusmith.objective.contrastive", "Contrastive"),
}
"""Module and class of each kind of objective."""


def objective_class(kind: str) -> type[Objective]:
    """The class of this kind of objective.

    Raises:
        KeyError: there is none; recipes are checked before they get here.
    """
    module, name = OBJECTIVES[kind]
    return getattr(import_module(module), name)


def build_objective(config: ObjectiveConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> Objective:
    """The objective that `config` asks for, on `data`, for the encoder of `checkpoint`.

    What it needs beside the encoder (heads, decoders) comes from the checkpoint where that has it, and is drawn from
    `seed` otherwise.

    Raises:
        CorpusError: `data` holds nothing that this objective can train on.
        ModelError: the checkpoint lacks something that this objective needs.
    """
    build: Callable[..., Objective] = objective_class(config.kind)
    return build(config, data, checkpoint, seed)
