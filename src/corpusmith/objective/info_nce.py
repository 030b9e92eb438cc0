"""InfoNCE: the part that all objectives share which bring texts together and keep others apart.

For B queries and C candidates, candidate i the positive of query i,

    s(q, d)  = v(q) . v(d) / temperature           v of unit length where the checkpoint's vectors are
    L        = - 1/B sum_i log [ exp s(q_i, d_i) / sum_{d in C_i} exp s(q_i, d) ]

where C_i are the candidates without those that may well be right answers: texts of the document that d_i is from (or
that q_i is from), and copies of d_i.

Batches beyond `recompute_above` tokens are encoded in pieces whose activations are computed again in the backward pass
(`pieces.py`): the loss is the same, and memory does not grow with the batch.

Citation: van den Oord, Li, Vinyals (2018), "Representation Learning with Contrastive Predictive Coding".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.model.pooling import pool
from corpusmith.objective.base import Batch, Loss, Objective
from corpusmith.objective.options.contrast import InfoNCEConfig
from corpusmith.objective.pieces import of_each, runs


@dataclass(frozen=True, slots=True)
class PairInputs:
    """B queries, then C candidates (the B positives first), all encoded together.

    `pieces` are their packed batches in this order. `excluded` (bool `[B, C]`) marks candidates that are none of a
    query's negatives although they are not its positive.
    """

    pieces: tuple[PackedBatch, ...]
    excluded: torch.Tensor


class InfoNCEObjective(Objective):
    """Base of objectives whose examples are pairs of texts, each other's negatives: `collate` makes the texts and
    hands them to `batch_of`."""

    divisible = False
    sorted_by_length = False
    learning_rate = 2e-5
    batch_tokens = 16384

    config: InfoNCEConfig

    def batch_of(self, queries: Sequence[np.ndarray], candidates: Sequence[np.ndarray], excluded: np.ndarray) -> Batch:
        """B queries and C candidates, token ids without special tokens, as a batch; `excluded` as in `PairInputs`."""
        pieces, lengths = self.pieces_of([*queries, *candidates])
        return Batch(lengths, PairInputs(pieces, torch.from_numpy(excluded)), borders=(len(queries),))

    def pieces_of(self, texts: Sequence[np.ndarray]) -> tuple[tuple[PackedBatch, ...], np.ndarray]:
        """Texts with special tokens, packed in pieces of about `recompute_above` tokens; and their lengths."""
        sequences = [self.tokenizer.with_specials(ids, self.max_tokens) for ids in texts]
        lengths = np.array([len(sequence) for sequence in sequences])
        borders = runs(lengths, self.config.recompute_above)
        return tuple(pack(sequences[first:end]) for first, end in borders), lengths

    def clipped(self, lengths: np.ndarray) -> np.ndarray:
        """Lengths of texts with their special tokens, cut where they are too long."""
        return np.minimum(lengths + 2, self.max_tokens)

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """InfoNCE over the batch's candidates."""
        inputs: PairInputs = batch.inputs
        total, accuracy = info_nce(self.similarities(encoder, inputs), inputs.excluded)
        return Loss(total, float(len(inputs.excluded)), {"accuracy": accuracy})

    def similarities(self, encoder: Encoder, inputs: PairInputs) -> torch.Tensor:
        """`[B, C]` products of queries' and candidates' vectors, divided by the temperature."""
        vectors = self._encode(encoder, inputs.pieces)
        size = len(inputs.excluded)
        return vectors[:size] @ vectors[size:].T / self.config.temperature

    def _encode(self, encoder: Encoder, pieces: Sequence[PackedBatch]) -> torch.Tensor:
        """`[S, D]` float32 vectors of S texts, of unit length where the checkpoint's are."""

        def vectors_of(packed: PackedBatch) -> tuple[torch.Tensor]:
            return (pool(encoder(packed), packed, self.pooling),)

        device = next(encoder.parameters()).device
        (vectors,) = of_each(vectors_of, [piece.to(device) for piece in pieces])
        return F.normalize(vectors, dim=-1) if self.normalize else vectors


def info_nce(
    similarities: torch.Tensor, excluded: torch.Tensor, *, symmetric: bool = False
) -> tuple[torch.Tensor, float]:
    """InfoNCE of `similarities[B, C]` whose first B columns are the positives, and how many queries put theirs first.

    Args:
        similarities: already divided by the temperature.
        excluded: bool `[B, C]`, no positive among them.
        symmetric: average with the same loss from positives to queries.
    """
    size = len(excluded)
    logits = similarities.masked_fill(excluded.to(similarities.device), -torch.inf)
    answers = torch.arange(size, device=logits.device)
    total = F.cross_entropy(logits, answers)
    if symmetric:
        total = (total + F.cross_entropy(logits[:, :size].T, answers)) / 2
    with torch.no_grad():
        first = float((logits.argmax(dim=1) == answers).float().mean())
    return total, first


def excluded_candidates(
    candidates: Sequence[np.ndarray], documents: np.ndarray, size: int, query_documents: np.ndarray | None = None
) -> np.ndarray:
    """`bool[B, C]`: candidates of the same document, or with the same text, as a query's positive, itself apart.

    Args:
        candidates: token ids of C candidates, the positives of the B = `size` queries first.
        documents: `int64[C]` their documents, negative where unknown.
        size: B.
        query_documents: `int64[B]`, where queries come from other documents than their positives: no candidate from
            there is a negative either.
    """
    known: dict[bytes, int] = {}
    texts = np.array([known.setdefault(ids.astype(np.uint32).tobytes(), len(known)) for ids in candidates])
    excluded = _same_documents(documents[:size], documents) | (texts[:size, None] == texts[None, :])
    if query_documents is not None:
        excluded |= _same_documents(query_documents, documents)
    excluded[np.arange(size), np.arange(size)] = False
    return excluded


def _same_documents(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`bool[B, C]`: whether the documents `one[B]` and `other[C]` are the same; unknown ones (negative) never are."""
    return (one[:, None] == other[None, :]) & (one[:, None] >= 0)
