"""Which objectives there are: the one place that knows all of them.

A new objective is listed here and its options in `config.ObjectiveConfig`; nothing else has to change. Objectives are
named by module, and imported when one is built: checking a recipe needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from corpusmith.errors import ModelError
from corpusmith.objective.config import ObjectiveConfig

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint
    from corpusmith.objective.base import Objective
    from corpusmith.objective.data import TrainingData

__all__ = ["OBJECTIVES", "ObjectiveConfig", "build_objective", "objective_class", "save_parts"]

OBJECTIVES = {
    "masked_language": ("corpusmith.objective.masked_language", "MaskedLanguage"),
    "bag_of_words": ("corpusmith.objective.bag_of_words", "BagOfWords"),
    "cocondenser": ("corpusmith.objective.cocondenser", "CoCondenser"),
    "condenser": ("corpusmith.objective.condenser", "Condenser"),
    "dupmae": ("corpusmith.objective.dupmae", "DupMAE"),
    "retromae": ("corpusmith.objective.retromae", "RetroMAE"),
    "contrastive": ("corpusmith.objective.contrastive", "Contrastive"),
    "cot_mae": ("corpusmith.objective.cot_mae", "CoTMAE"),
    "electra": ("corpusmith.objective.electra", "Electra"),
    "seed_encoder": ("corpusmith.objective.seed_encoder", "SeedEncoder"),
    "simlm": ("corpusmith.objective.simlm", "SimLM"),
    "tsdae": ("corpusmith.objective.tsdae", "TSDAE"),
    "contriever": ("corpusmith.objective.contriever", "Contriever"),
    "ict": ("corpusmith.objective.ict", "InverseCloze"),
    "laprador": ("corpusmith.objective.laprador", "LaPraDoR"),
    "simcse": ("corpusmith.objective.simcse", "SimCSE"),
    "spider": ("corpusmith.objective.spider", "Spider"),
    "matryoshka": ("corpusmith.objective.matryoshka", "Matryoshka"),
    "matryoshka_2d": ("corpusmith.objective.matryoshka_2d", "Matryoshka2d"),
    "starbucks": ("corpusmith.objective.starbucks", "Starbucks"),
    "substructures": ("corpusmith.objective.substructures", "Substructures"),
    "sum": ("corpusmith.objective.sum", "Sum"),
    "pretrained_distillation": ("corpusmith.objective.pretrained_distillation", "PretrainedDistillation"),
    "self_attention_distillation": ("corpusmith.objective.self_attention_distillation", "SelfAttentionDistillation"),
    "prop": ("corpusmith.objective.prop", "Prop"),
    "reranking": ("corpusmith.objective.reranking", "Reranking"),
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

    What it needs beside the encoder (heads, decoders) comes from the checkpoint where training with this objective, or
    one that it continues, has left it there, and is drawn from `seed` otherwise.

    Raises:
        CorpusError: `data` holds nothing that this objective can train on.
        ModelError: the checkpoint lacks something that this objective needs, or has parts of another size.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    build: Callable[..., Objective] = objective_class(config.kind)
    objective = build(config, data, checkpoint, seed)
    kept = (checkpoint.parts[kind] for kind in (config.kind, *objective.continues) if kind in checkpoint.parts)
    if path := next(kept, None):
        try:
            objective.continue_from(load_file(path))
        except (ModelError, OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} cannot be trained on with: {error}; remove the file to begin these parts anew."
            ) from error
    return objective


def save_parts(objective: Objective, kind: str, model: Path) -> None:
    """Write what the objective keeps beside the encoder into the model's folder, for `build_objective`."""
    from safetensors.torch import save_file

    from corpusmith.model.huggingface import HEAD, PARTS

    folder = model / PARTS
    for name, tensors in (*objective.parts_by_kind(kind).items(), (HEAD, objective.head_tensors())):
        if tensors:
            folder.mkdir(exist_ok=True)
            contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_file(contiguous, folder / f"{name}.safetensors")
