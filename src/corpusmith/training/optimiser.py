"""AdamW, as adaptation of small encoders needs it.

Two learning rates: weights that come from a checkpoint move little, weights drawn at random must first arrive
somewhere. Weight decay touches matrices only: decaying norms and biases hurts, and decaying embeddings erases the
rows of words that a domain rarely uses. The update is torch's fused one (one pass over memory; on a CPU the update
is bound by memory, not by arithmetic).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from corpusmith.objective.base import Objective
from corpusmith.training.config import TrainingConfig


def named_parameters(encoder: nn.Module, objective: Objective) -> dict[str, nn.Parameter]:
    """All trained parameters, under the names that checkpoints use."""
    modules = {"encoder": encoder, "objective": objective}
    return {
        f"{prefix}.{name}": parameter
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def build_optimiser(encoder: nn.Module, objective: Objective, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over up to four groups: from the checkpoint or fresh, with or without weight decay.

    Each group keeps its peak learning rate under "peak", for `set_learning_rate`.
    """
    fresh = set() if objective.continued else {id(parameter) for parameter in objective.fresh_parameters()}
    undecayed = {id(p) for module in (encoder, objective) for p in _parameters_without_decay(module)}
    peak = config.learning_rate if config.learning_rate is not None else objective.learning_rate
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in named_parameters(encoder, objective).values():
        groups.setdefault((id(parameter) in fresh, id(parameter) in undecayed), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak": config.fresh_learning_rate if is_fresh else peak,
                "weight_decay": 0.0 if is_undecayed else config.weight_decay,
            }
            for (is_fresh, is_undecayed), parameters in groups.items()
        ],
        lr=peak,
        fused=True,
    )


def _parameters_without_decay(module: nn.Module) -> Iterable[nn.Parameter]:
    """Embeddings, and whatever is no matrix."""
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            if isinstance(part, nn.Embedding) or parameter.ndim < 2:
                yield parameter


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to this share of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


def average_and_clip(parameters: Iterable[nn.Parameter], weight: float, limit: float) -> float:
    """Turn gradients summed over `weight` units into their mean and scale that to a norm of at most `limit`.

    Returns:
        The norm of the mean gradient before it was clipped.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = float(nn.utils.get_total_norm(gradients, foreach=True)) / weight
    torch._foreach_mul_(gradients, min(1.0, limit / (norm + 1e-6)) / weight)
    return norm
