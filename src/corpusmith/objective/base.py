"""The objective contract: what pretraining optimises.

An objective chooses its training examples, turns some of them into a batch, and turns a batch into a loss. It owns
whatever it needs beside the encoder (heads, decoders, queues) as its own parameters and buffers: they are kept in
checkpoints, so that training can go on, and left behind on export. One file holds one objective.

To write a new one, subclass `Objective` (or `PassageObjective`, where each passage is one example), give it options
with their own `kind` in a file of `objective/options`, name these in `objective/config.py`, and list the class in
`objective/registry.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from corpusmith.errors import CorpusError, ModelError
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

    divisible: bool = True
    """Whether a batch may be split into micro-batches: not where examples of a batch serve each other as negatives."""

    sorted_by_length: bool = True
    """Whether examples of like length are brought together in a batch."""

    learning_rate: float = 5e-5
    """Peak learning rate of pretrained weights, where the recipe names none."""

    batch_tokens: int = 8192
    """Tokens of one optimiser step, where the recipe names none."""

    dropout: float = 0.0
    """Share of the encoder's activations that are dropped in training."""

    continues: tuple[str, ...] = ()
    """Kinds of objectives whose parts it begins with, where the model has none of its own kind."""

    head_is_fresh: bool = True
    """Whether the masked-language head, if there is one, was drawn at random and not found in the checkpoint."""

    continued: bool = False
    """Whether its own parts come from earlier training and not from chance."""

    progress: float = 0.0
    """Share of the run's steps that lie behind, 0 to 1; set before the batches of a step are collated. It is 0.5
    where a run's cost is measured, and 1 for the examples held out."""

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
        """The loss of one batch.

        It leaves the objective as it is: steps are rehearsed with it, and only `after_step` may note what one brought.
        """

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """Floating-point operations of forward and backward on this batch; the encoder's alone unless overridden."""
        return 3 * encoder.flops(batch.lengths.tolist())

    def parts(self) -> dict[str, torch.Tensor]:
        """What is kept beside the trained model, so that training can go on with other texts: all tensors of the
        objective but those of `head`, the masked-language head, which belongs to the model."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("head.")}

    def parts_by_kind(self, kind: str) -> dict[str, dict[str, torch.Tensor]]:
        """`parts` by the kind of objective that finds them again: `kind`, its own, unless it is made of others."""
        return {kind: self.parts()}

    def head_tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of `head`, none where the objective has no such head."""
        head = getattr(self, "head", None)
        return head.state_dict() if isinstance(head, nn.Module) else {}

    def continue_from(self, parts: dict[str, torch.Tensor]) -> None:
        """Take on what `parts` once gave.

        Raises:
            ModelError: it was given by an objective of other sizes.
        """
        wanted = self.parts()
        if {name: tensor.shape for name, tensor in wanted.items()} != {n: t.shape for n, t in parts.items()}:
            raise ModelError("its parts have other names or sizes than this recipe's objective")
        for name, tensor in wanted.items():
            tensor.copy_(parts[name])
        self.continued = True

    def fresh_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters drawn at random, which learn at their own rate; unless overridden all of the objective's but those
        of a `head` that came with the checkpoint."""
        return (p for name, p in self.named_parameters() if self.head_is_fresh or not name.startswith("head."))

    def after_step(self, encoder: Encoder) -> None:
        """Called after every optimiser step; for momentum encoders, queues and the like."""


class PassageObjective(Objective):
    """An objective whose examples are the passages that may be trained on.

    Attributes:
        rows: `int64[N]`, the passage of each example.

    Raises:
        CorpusError: there is none with at least one token.
    """

    def __init__(self, data: TrainingData, checkpoint: Checkpoint) -> None:
        super().__init__(data, checkpoint)
        self.rows = data.rows[data.passages.lengths[data.rows] > 0]
        if len(self.rows) == 0:
            raise CorpusError("there is no passage to train on; add documents.")

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of each passage, special tokens included."""
        return np.minimum(self.data.passages.lengths[self.rows] + 2, self.max_tokens)

    def sequences(self, examples: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """The token ids of these examples, special tokens included, cut where they are too long."""
        return [self.tokenizer.with_specials(self.data.passages[row], self.max_tokens) for row in self.rows[examples]]
