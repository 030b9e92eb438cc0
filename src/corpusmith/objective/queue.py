"""Negatives from earlier batches: the vectors of one side of the pairs are kept in a queue.

A batch small enough for two cores has few negatives. The vectors of earlier batches are more of them at no cost, if
they are still what the model would compute. So one side of each pair is encoded by a copy of the encoder, the key
encoder, which no gradient reaches and which changes slowly or seldom; its vectors are this batch's positives and
enter the queue for later ones. (He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning".)

For B pairs and a queue Q of K vectors, with candidates C_i = positives of the batch and Q, without texts of the
document of pair i,

    L = - 1/B sum_i log [ exp (v(x_i) . k(y_i) / temperature) / sum_{c in C_i} exp (v(x_i) . c / temperature) ]

The queue begins empty rather than with random vectors; until it is full the batch's own keys are most of the
negatives. Key encoder, queue and its documents (`[K, D]`, `[K]`) change in `after_step` alone and are kept in
checkpoints, but not beside the finished model: a new run begins with a copy of the encoder and an empty queue.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.data import TrainingData
from corpusmith.objective.info_nce import InfoNCEObjective, excluded_candidates, info_nce
from corpusmith.objective.options.contrast import QueueConfig

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

EMPTY = -2
"""The document of a place in the queue that holds no vector yet."""


@dataclass(frozen=True, slots=True)
class SidesInputs:
    """B texts and their B counterparts, packed apart; `excluded` (bool `[B, B]`) as in `PairInputs`; `documents`
    (int64 `[B]`) of the pairs."""

    first: tuple[PackedBatch, ...]
    second: tuple[PackedBatch, ...]
    excluded: torch.Tensor
    documents: torch.Tensor


class QueueObjective(InfoNCEObjective):
    """Base of objectives with a key encoder and a queue; subclasses make pairs, and say in `after_step` how the key
    encoder follows."""

    config: QueueConfig
    queue: torch.Tensor
    queue_documents: torch.Tensor
    queue_next: torch.Tensor

    def __init__(self, config: QueueConfig, data: TrainingData, checkpoint: Checkpoint) -> None:
        super().__init__(data, checkpoint)
        self.config = config
        self.key_encoder = copy.deepcopy(checkpoint.encoder).requires_grad_(False)
        width = checkpoint.encoder.config.hidden_size
        self.register_buffer("queue", torch.zeros(config.queue, width))
        self.register_buffer("queue_documents", torch.full((config.queue,), EMPTY, dtype=torch.int64))
        self.register_buffer("queue_next", torch.zeros((), dtype=torch.int64))
        self._latest: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def swapped(self) -> bool:
        """Whether it is the second side that the encoder is trained on, and the first that gives keys."""
        return False

    def sides_of(self, first: Sequence[np.ndarray], second: Sequence[np.ndarray], documents: np.ndarray) -> Batch:
        """B pairs of texts, without special tokens, as a batch."""
        sides = [self.pieces_of(texts) for texts in (first, second)]
        excluded = torch.from_numpy(excluded_candidates(second, documents, len(documents)))
        inputs = SidesInputs(sides[0][0], sides[1][0], excluded, torch.from_numpy(documents))
        return Batch(np.concatenate([lengths for _, lengths in sides]), inputs, borders=(len(first),))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """InfoNCE over the batch's keys and the queue. The keys are held until `after_step`."""
        inputs: SidesInputs = batch.inputs
        trained, fixed = (inputs.second, inputs.first) if self.swapped else (inputs.first, inputs.second)
        vectors = self._encode(encoder, trained)
        with torch.no_grad():
            self.key_encoder.compute_dtype = encoder.compute_dtype
            keys = self._encode(self.key_encoder, fixed)
        documents = inputs.documents.to(keys.device)
        same = (documents[:, None] == self.queue_documents) & (documents[:, None] >= 0)
        excluded = torch.cat([inputs.excluded.to(keys.device), same | (self.queue_documents == EMPTY)], dim=1)
        similarities = vectors @ torch.cat([keys, self.queue]).T / self.config.temperature
        total, accuracy = info_nce(similarities, excluded)
        self._latest = keys, documents
        return Loss(total, float(len(documents)), {"accuracy": accuracy})

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, forward and backward on the side that is trained, forward alone on the other."""
        first, second = (encoder.flops(part.tolist()) for part in np.split(batch.lengths, batch.borders))
        return first + 3 * second if self.swapped else 3 * first + second

    @torch.no_grad()
    def enqueue_latest(self) -> None:
        """Put the keys of the last loss into the queue, in the places of the oldest."""
        assert self._latest is not None, "no loss was computed before this step"
        keys, documents = (part[-len(self.queue) :] for part in self._latest)
        places = (self.queue_next + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places], self.queue_documents[places] = keys, documents
        self.queue_next.add_(len(keys)).remainder_(len(self.queue))
        self._latest = None

    def empty_queue(self) -> None:
        """Forget all keys."""
        self.queue_documents.fill_(EMPTY)
        self.queue_next.zero_()

    @torch.no_grad()
    def follow(self, encoder: Encoder, momentum: float) -> None:
        """Let the key encoder keep `momentum` of itself and take the rest from the encoder."""
        for kept, new in zip(self.key_encoder.parameters(), encoder.parameters(), strict=True):
            kept.lerp_(new, 1 - momentum)

    def fresh_parameters(self) -> Iterable[nn.Parameter]:
        """None: the key encoder is a copy, and not trained."""
        return ()

    def parts(self) -> dict[str, torch.Tensor]:
        """None; see the module's text."""
        return {}
