"""The objective contract: what pretraining optimises.

An objective chooses its training examples, turns some of them into a batch, and turns a batch into a loss. It owns
whatever it needs beside the encoder (heads, decoders, queues) as its own parameters and buffers: they are kept in
checkpoints, so that training can go on, and left behind on export. One file holds one objective.

To write a new one, subclass `Objective`, give it options with their own `kind` in `objective/config.py`, and list it
in `objective/registry.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from corpusmith.objective.data import TrainingData

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint
    from corpusmith.model.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Loss:
    """`total` is what is minimised (a mean over `weight` units, with gradient); `parts` are named scalars for the log.

    `weight` is the number of units (masked tokens, pairs) averaged over: micro-batches are accumulated in
    proportion to it, so that splitting a batch does not change the loss. A batch with nothing to learn has weight 0
    and a total of 0.
    """

    total: torch.Tensor
    weight: float
    parts: dict[str, float]


@dataclass(frozen=True, slots=True)
class Batch:
    """What `collate` made: `lengths[S]` (int64), tokens of each sequence that passes through the encoder, and
    `inputs`, the objective's own. `borders` are the places in `lengths` where another kind of sequence begins
    (passages after queries), which a trainer that pads would pad apart."""

    lengths: np.ndarray
    inputs: Any
    borders: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """All tokens that pass through the encoder."""
        return int(self.lengths.sum())

    @property
    def padded_tokens(self) -> int:
        """How many they would be if every sequence were padded to the longest of its kind; for the accounts only."""
        return sum(len(part) * int(part.max()) for part in np.split(self.lengths, self.borders) if len(part))


class Objective(nn.Module, ABC):
    """Base of all objectives. Parameters registered here are trained with the encoder's.

    It is built for one encoder and keeps what it must know of it (`tokenizer`, `max_tokens`, `pooling`, `normalize`),
    but not the encoder itself: whoever trains hands that in.
    """

    needs_pairs: ClassVar[bool] = False
    """Whether `data.pairs` must be there (made by the pairs step from the corpus itself, or from labels)."""

    divisible: ClassVar[bool] = True
    """Whether a batch may be split into micro-batches: not where examples of a batch serve each other as negatives."""

    sorted_by_length: ClassVar[bool] = True
    """Whether examples of like length are brought together in a batch."""

    learning_rate: ClassVar[float] = 5e-5
    """Peak learning rate of pretrained weights, where the recipe names none."""

    batch_tokens: ClassVar[int] = 8192
    """Tokens of one optimiser step, where the recipe names none."""

    def __init__(self, data: TrainingData, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.data = data
        self.tokenizer = checkpoint.tokenizer
        self.max_tokens = checkpoint.max_tokens
        self.pooling = checkpoint.pooling
        self.normalize = checkpoint.normalize

    @abstractmethod
    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens that each of the N training examples costs: batches are built from it by token budget."""

    @abstractmethod
    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Make a batch of the examples with these numbers; pure, and deterministic in `rng`."""

    @abstractmethod
    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The loss of one batch."""

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """Floating-point operations of forward and backward on this batch; the encoder's alone unless overridden."""
        return 3 * encoder.flops(batch.lengths.tolist())

    def fresh_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters drawn at random, which learn at their own rate; all of the objective's unless overridden."""
        return self.parameters()

    def after_step(self, encoder: Encoder) -> None:
        """Called after every optimiser step; for momentum encoders, queues and the like."""
