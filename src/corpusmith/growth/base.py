"""The growth contract: a trained model and another shape, and a model of that shape that starts ahead.

An operator is a function of weights. It says whether the model that comes out computes what the one that went in
computed (`preserves_function`); one test checks all that say so. What does not depend on the shape (tokenizer, pooling,
prompts) and what must be told of it (configs, name, parts of objectives that no longer fit) is seen to by
`grown_checkpoint`, for all operators alike. One file holds one operator; its options stand in `growth/options`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead

StepLoss = Callable[[Encoder, MaskedLanguageHead | None, int], torch.Tensor]
"""The training loss of an encoder (and its masked-language head, where there is one) on the batch of this step, with
gradient. Operators that are learned are learned with it."""


@dataclass(frozen=True, slots=True)
class GrowthInput:
    """What an operator may look at.

    Attributes:
        source: the trained model; nobody changes it.
        target: the shape wanted.
        generator: source of all randomness.
        loss: for operators that are learned; None where there is nothing to learn from.
    """

    source: Checkpoint
    target: EncoderConfig
    generator: torch.Generator
    loss: StepLoss | None = None


class GrowthOperator(ABC):
    """Base of all operators."""

    keeps_depth: ClassVar[bool] = False
    """Whether it makes models wider or narrower alone."""

    steps: int = 0
    """How often `grow` asks for the loss, each time with its gradient; 0 for operators that need none."""

    batch_tokens: int = 8192
    """Tokens of the batches whose loss it asks for."""

    def reaches(self, source: EncoderConfig, wanted: EncoderConfig) -> EncoderConfig:
        """The shape to ask this operator for where several together are to make `wanted` of `source`: `wanted` in all
        that it can change, and `source` in the rest.

        Raises:
            ModelError: it cannot make that.
        """
        return replace(wanted, layers=source.layers, windowed=source.windowed) if self.keeps_depth else wanted

    def preserves_function(self, source: EncoderConfig, target: EncoderConfig) -> bool:
        """Whether a model grown from this shape to that one gives the source's hidden states (to 1e-5 in float32): the
        same where it is as wide, and where it is wider each of them at some place of the wider ones, repeated or beside
        zeros; and the same logits of the masked-language head."""
        return False

    def flops(self, source: EncoderConfig, target: EncoderConfig) -> float:
        """Floating-point operations of `grow`, those of the losses that it asks for left out."""
        return 0.0

    @abstractmethod
    def check(self, source: EncoderConfig, target: EncoderConfig) -> None:
        """Raise ModelError, in one sentence, if this operator cannot make that shape of this one."""

    @abstractmethod
    def grow(self, given: GrowthInput) -> tuple[Encoder, MaskedLanguageHead | None]:
        """A new encoder of the target shape, and a head for it where the source has one; float32, sharing nothing with
        the source."""


def grown_checkpoint(operator: GrowthOperator, given: GrowthInput) -> Checkpoint:
    """The checkpoint that an operator makes, with all that belongs to it.

    Where vectors are cut to their leading dimensions they stay so, unless the model becomes narrower: these are then
    others, and fewer.

    Raises:
        ModelError: the operator cannot make that shape.
    """
    operator.check(given.source.encoder.config, given.target)
    encoder, head = operator.grow(given)
    narrower = given.target.hidden_size < given.source.encoder.config.hidden_size
    shape = f"L{given.target.layers}-H{given.target.hidden_size}"
    return replace(
        given.source,
        encoder=encoder,
        head=head,
        name=f"{given.source.name} (grown to {shape})",
        max_tokens=min(given.source.max_tokens, given.target.max_tokens),
        parts={},
        cut_dimension=None if narrower else given.source.cut_dimension,
    )
