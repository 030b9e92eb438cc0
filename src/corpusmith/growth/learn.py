"""Learning how to grow: maps from a small model's weights to a larger one's, trained with the training loss.

A `Maker` computes the larger model's weights W' from the source's by maps with parameters P. A step asks the loss of
the model so made, on a batch, and changes P:

    P <- AdamW(P, dL/dP),        dL/dP = dL/dW' dW'/dP

The two factors are computed one after the other. The weights made are put into a plain model, whose loss and gradients
are whatever they are in training, recomputed pieces and all; these gradients then go back through the maker. So memory
is that of a training step, and of the maker's own graph: a few times the larger model's weights, never the product of
two maps. What comes out is the model with the weights of the last step: the maps are gone.

Nothing here is drawn at random; what the loss draws is its own business.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from corpusmith.errors import CorpusmithError, ModelError
from corpusmith.growth.axes import Axes, Axis
from corpusmith.growth.base import GrowthInput, GrowthOperator, StepLoss
from corpusmith.growth.options.learned import LearnedOptions
from corpusmith.growth.shapes import check_larger
from corpusmith.growth.weights import Weights, empty_model, model_of, parameters_of, weights_of
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead


class Maker(nn.Module, ABC):
    """The weights of a larger model, as a function of this module's parameters."""

    @abstractmethod
    def forward(self) -> Weights:
        """All weights by name, with gradient; there may be some that the model has no place for."""


class LearnedOperator(GrowthOperator):
    """Base of operators that are learned."""

    kind: ClassVar[str]

    def __init__(self, config: LearnedOptions) -> None:
        self.steps, self.batch_tokens, self.learning_rate = config.steps, config.batch_tokens, config.learning_rate

    @abstractmethod
    def maker(
        self, weights: Weights, source: EncoderConfig, target: EncoderConfig, generator: torch.Generator
    ) -> Maker:
        """What makes models of the target's shape from these weights, before it has learned."""

    def check(self, source: EncoderConfig, target: EncoderConfig) -> None:
        """Wider or deeper."""
        check_larger(self.kind, source, target, deeper=True)

    def grow(self, given: GrowthInput) -> tuple[Encoder, MaskedLanguageHead | None]:
        """Learn, and make.

        Raises:
            ModelError: there is no loss to learn from.
            CorpusmithError: learning diverged.
        """
        if self.steps and given.loss is None:
            raise ModelError(f"{self.kind} is learned with the training loss, and there is none; set its steps to 0")
        source = given.source.encoder
        maker = self.maker(weights_of(source, given.source.head), source.config, given.target, given.generator)
        maker.to(source.token_embedding.weight.device)
        with torch.no_grad():
            encoder, head = model_of(given.target, maker())
        if given.loss is not None:
            learn(maker, encoder, head, given.loss, self.steps, self.learning_rate)
        return encoder, head

    def flops(self, source: EncoderConfig, target: EncoderConfig) -> float:
        """Those of making the weights and of going back through that, a head included; counted, not carried out."""
        weights = weights_of(*empty_model(source, with_head=True))
        maker = self.maker(weights, source, target, torch.Generator()).to("meta")
        with FlopCounterMode(display=False) as counter:
            made = [weight for weight in maker().values() if weight.requires_grad]
            torch.autograd.backward(made, [torch.empty_like(weight) for weight in made])
        return float(self.steps * counter.get_total_flops())


def learn(
    maker: Maker,
    encoder: Encoder,
    head: MaskedLanguageHead | None,
    loss: StepLoss,
    steps: int,
    learning_rate: float,
) -> None:
    """Train the maker, and leave what it makes in the encoder and the head.

    Args:
        maker: what is trained.
        encoder, head: of the shape that it makes; their weights are overwritten.
        loss: asked once a step.
        steps: how many.
        learning_rate: of the first; it falls to 0 in a straight line.

    Raises:
        CorpusmithError: the loss is no finite number.
    """
    optimiser = torch.optim.AdamW(maker.parameters(), lr=learning_rate, weight_decay=0.0)
    for step in range(steps):
        found = backward(maker, encoder, head, loss, step)
        if not math.isfinite(found):
            raise CorpusmithError(
                f"learning to grow diverged in step {step + 1}: the loss is {found:g}; lower growth.learning_rate."
            )
        optimiser.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    with torch.no_grad():
        _fill(parameters_of(encoder, head), maker())


def backward(maker: Maker, encoder: Encoder, head: MaskedLanguageHead | None, loss: StepLoss, step: int) -> float:
    """The loss of the model that the maker makes; its gradient is added to the maker's parameters, and none is left in
    the model."""
    places, made = parameters_of(encoder, head), maker()
    _fill(places, made)
    found = loss(encoder, head, step)
    found.backward()
    gradients = {
        name: place.grad for name, place in places.items() if place.grad is not None and made[name].requires_grad
    }
    torch.autograd.backward([made[name] for name in gradients], list(gradients.values()))
    for place in places.values():
        place.grad = None
    return float(found.detach())


def mapped(
    weight: torch.Tensor, axes: Axes, maps: Mapping[Axis, torch.Tensor] | nn.ParameterDict
) -> list[torch.Tensor]:
    """The parts of a weight (`[..., rows, columns]`, or `[..., rows]` where its axes have no columns), each with its
    axes mapped linearly: `B W A^T`, with B and A the maps of its rows and columns, `[new, old]`."""
    if axes.columns is None:
        parts = weight.chunk(len(axes.rows), dim=-1)
        return [part if axis is None else part @ maps[axis].T for part, axis in zip(parts, axes.rows, strict=True)]
    across = maps[axes.columns].T
    parts = weight.chunk(len(axes.rows), dim=-2)
    return [
        part @ across if axis is None else maps[axis] @ part @ across
        for part, axis in zip(parts, axes.rows, strict=True)
    ]


@torch.no_grad()
def _fill(places: dict[str, nn.Parameter], made: Weights) -> None:
    for name, place in places.items():
        place.copy_(made[name])
