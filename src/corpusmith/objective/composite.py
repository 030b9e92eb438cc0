"""Objectives that are made of others.

The members are ordinary objectives; what the trainer asks of an objective beside its loss is put together from theirs
here. A masked-language head is one for all of them. What they keep beside the model is kept for each under its own
kind, so that the same objective finds it again whether it stands alone, in a sum or inside another one.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from corpusmith.errors import ModelError
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.nested import SharedRun
from corpusmith.objective.base import Batch, Loss, Objective
from corpusmith.objective.config import ObjectiveConfig, WrappedConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.registry import build_objective

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

Size = tuple[int, int]
"""Layers and leading dimensions of a model inside the model."""


class Composite(Objective):
    """Base of objectives that are made of others. The first member leads: its rates and sizes are the defaults.

    Attributes:
        members: the objectives it is made of.
        kinds: their kinds.
    """

    def __init__(
        self, configs: Sequence[ObjectiveConfig], data: TrainingData, checkpoint: Checkpoint, seed: int
    ) -> None:
        super().__init__(data, checkpoint)
        checkpoint = copy.copy(checkpoint)
        members: list[Objective] = []
        for config in configs:
            members.append(build_objective(config, data, checkpoint, seed))
            checkpoint.head = checkpoint.head or _head_of(members[-1])
        _register_once(members)
        self.kinds = [config.kind for config in configs]
        self.members = tuple(members)
        self.parts_of_members = nn.ModuleList(members)
        lead = members[0]
        self.divisible = all(member.divisible for member in members)
        self.sorted_by_length, self.batch_tokens = lead.sorted_by_length, lead.batch_tokens
        self.learning_rate = lead.learning_rate
        self.dropout = max(member.dropout for member in members)

    @property
    def progress(self) -> float:
        """Share of the run's steps that lie behind; handed on to the members."""
        return self.members[0].progress

    @progress.setter
    def progress(self, share: float) -> None:
        for member in self.members:
            member.progress = share

    def parts_by_kind(self, kind: str) -> dict[str, dict[str, torch.Tensor]]:
        """What each member keeps, under its own kind."""
        kept: dict[str, dict[str, torch.Tensor]] = {}
        for name, member in zip(self.kinds, self.members, strict=True):
            kept |= member.parts_by_kind(name)
        return kept

    def head_tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the head that the members share."""
        return next((tensors for member in self.members if (tensors := member.head_tensors())), {})

    def fresh_parameters(self) -> Iterable[nn.Parameter]:
        """The members', but of those whose parts come from earlier training."""
        for member in self.members:
            if not member.continued:
                yield from member.fresh_parameters()

    def after_step(self, encoder: Encoder) -> None:
        """The members' own."""
        for member in self.members:
            member.after_step(encoder)


class Nested(Composite):
    """Base of objectives that ask another one's loss of smaller models inside the model.

    Attributes:
        layers, width: how many the whole model has.
        asked: how many times the inner objective is asked for the loss of one batch.
    """

    asked = 1

    def __init__(self, config: WrappedConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__([_in_one_piece(config)], data, checkpoint, seed)
        self.layers, self.width = checkpoint.encoder.config.layers, checkpoint.encoder.config.hidden_size

    @property
    def inner(self) -> Objective:
        """The objective whose loss is asked."""
        return self.members[0]

    def lengths(self) -> np.ndarray:
        """The inner objective's."""
        return self.inner.lengths()

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """The inner objective's."""
        return self.inner.collate(examples, rng)

    def losses(self, encoder: Encoder, batch: Batch, sizes: Sequence[Size]) -> tuple[SharedRun, list[Loss]]:
        """The inner objective's loss of a batch that it collated, for each size; and the run that they share."""
        run = SharedRun(encoder, [layers for layers, _ in sizes])
        return run, [self.inner.loss(cast("Encoder", run.view(*size)), batch) for size in sizes]

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """One run of the encoder, and as often as the loss is asked what the inner objective does beside it."""
        view = SharedRun(encoder, ()).view(self.layers, self.width)
        beside = self.inner.flops(cast("Encoder", view), batch)
        return self.inner.flops(encoder, batch) + (self.asked - 1) * beside

    def checked(self, sizes: Sequence[Size], option: str) -> list[Size]:
        """These sizes.

        Raises:
            ModelError: the model has not that many layers or dimensions.
        """
        for layers, dimension in sizes:
            if layers > self.layers or dimension > self.width:
                raise ModelError(
                    f"{option} asks for {layers} layers and {dimension} dimensions; the model has {self.layers} layers "
                    f"and {self.width} dimensions."
                )
        return list(sizes)


def widths_below(width: int, number: int) -> list[int]:
    """The `number` largest powers of two below a width, descending; fewer where there are no more."""
    powers = [2**exponent for exponent in range((width - 1).bit_length())]
    return [power for power in reversed(powers) if power < width][:number]


def beside(rng: np.random.Generator, key: int) -> np.random.Generator:
    """A generator from what `rng` was seeded with and from `key`; it gives the same for all parts of a batch, and
    leaves `rng` as it is."""
    seeded = rng.bit_generator.seed_seq
    assert isinstance(seeded, np.random.SeedSequence)
    return np.random.default_rng(np.random.SeedSequence(seeded.entropy, spawn_key=(*seeded.spawn_key, key)))


def divergence(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean over rows of KL( softmax(wanted) || softmax(logits) ), without gradient into `wanted`."""
    return nn.functional.kl_div(
        logits.log_softmax(dim=1), wanted.detach().log_softmax(dim=1), reduction="batchmean", log_target=True
    )


def _in_one_piece(config: WrappedConfig) -> WrappedConfig:
    """The options without the wish to encode large batches in pieces and a second time in the backward pass: several
    losses hang on one run."""
    changes: dict[str, Any] = {"recompute_above": sys.maxsize} if "recompute_above" in type(config).model_fields else {}
    return config.model_copy(update=changes)


def _head_of(objective: Objective) -> MaskedLanguageHead | None:
    """The masked-language head of an objective or of what it is made of, if there is one."""
    inside = (part for part in objective.modules() if isinstance(part, Objective))
    heads = (getattr(part, "head", None) for part in inside)
    return next((head for head in heads if isinstance(head, MaskedLanguageHead)), None)


def _register_once(members: Sequence[nn.Module]) -> None:
    """Leave a module that several members have registered (the head) with the first of them; the others keep it as a
    plain attribute, so that checkpoints hold it once."""
    owned: set[int] = set()
    for member in members:
        for module in list(member.modules()):
            for name, child in list(module.named_children()):
                if id(child) in owned:
                    delattr(module, name)
                    object.__setattr__(module, name, child)
        owned |= {id(part) for part in member.modules()}
