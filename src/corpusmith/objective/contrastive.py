"""Contrastive pairs: InfoNCE with in-batch and mined negatives, optionally taught by a teacher's ranking.

A query and a passage that belong together should have near vectors, and all other passages of the batch far ones:

    s(q, d)  = v(q) . v(d) / temperature           v of unit length where the checkpoint's vectors are
    L        = - 1/B sum_i log [ exp s(q_i, d_i) / sum_{d in C_i} exp s(q_i, d) ]

The candidates C_i of query i are all B positives of the batch and all mined negatives of all its queries, without
those that may well be right answers: other passages of the document that d_i is from, and passages with the very text
of d_i. With `symmetric`, the same loss is also asked from passages to queries and the two are averaged.

Where pairs carry a teacher's scores t over a query's own candidates (the positive and the negatives drawn for it),
`distillation` adds, over those queries,

    weight * 1/B' sum_i KL( softmax(t_i / teacher_temperature) || softmax(s_i) ),

and a query's own mined negatives leave its C_i: some of them are right answers, which is what the teacher is asked.

| input                | shape   | what it is                                              |
|----------------------|---------|---------------------------------------------------------|
| `pairs.queries`      | N texts | token shards                                            |
| `pairs.positives`    | N texts | token shards                                            |
| `pairs.negatives`    | [N, M]  | rows of `data.passages`, -1 where there are fewer       |
| `pairs.documents`    | [N]     | document of the positive, negative where unknown        |
| `pairs.scores`       | [N,1+M] | the teacher's, NaN where unknown; or None               |

Queries, positives and negatives go through the encoder in one packed batch; a negative drawn by two queries goes
once. The batch is never cut into micro-batches, since every text is every query's negative. Larger batches are encoded
in pieces whose activations are recomputed in the backward pass (as in Gao et al. 2021, "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup"): the loss is the same, memory does not grow.

Nothing is dropped after training: there are no parameters beside the encoder's.

Example:
    >>> objective = build_objective(ContrastiveConfig(negatives=2), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Relations: `distillation` alone, with a teacher's margin in place of its distribution, would be MarginMSE; the
teacher's scores usually come from a cross-encoder or from the fused ranking.

Citation: van den Oord, Li, Vinyals (2018), "Representation Learning with Contrastive Predictive Coding" (InfoNCE);
Karpukhin et al. (2020), "Dense Passage Retrieval for Open-Domain Question Answering" (in-batch and mined negatives);
Ren et al. (2021), "RocketQAv2", section 3.2 (distillation by KL over a candidate list).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from corpusmith.errors import CorpusError
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.model.pooling import pool
from corpusmith.objective.base import Batch, Loss, Objective
from corpusmith.objective.config import ContrastiveConfig
from corpusmith.objective.data import PairSet, TrainingData, draw_negatives

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class PairInputs:
    """B queries, then C candidates (the B positives first), all encoded together.

    `pieces` are their packed batches in this order. `excluded` (bool `[B, C]`) marks candidates that are none of a
    query's negatives although they are not its positive. `own` (int64 `[B, 1+K]`) are the candidates that the teacher
    ranked for a query and `teacher` (float32 `[B, 1+K]`) its scores, -inf where there is none; None without a teacher.
    """

    pieces: tuple[PackedBatch, ...]
    excluded: torch.Tensor
    own: torch.Tensor | None
    teacher: torch.Tensor | None


class Contrastive(Objective):
    """InfoNCE over (query, passage) pairs; see the module's text."""

    divisible = False
    sorted_by_length = False
    learning_rate = 2e-5
    batch_tokens = 16384

    def __init__(self, config: ContrastiveConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        if data.pairs is None or len(data.pairs) == 0:
            raise CorpusError(
                "contrastive training needs pairs and the corpus yielded none; add documents with titles or several "
                "passages, or remove the contrastive stage from the recipe."
            )
        self.config = config
        self.pairs: PairSet = data.pairs

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of query, positive and the negatives drawn: these at their mean length, as it is not yet
        known which will be drawn."""
        pairs = self.pairs
        lengths = self._clipped(pairs.queries.lengths) + self._clipped(pairs.positives.lengths)
        available = pairs.negatives >= 0
        drawn = np.minimum(available.sum(axis=1), self.config.negatives)
        passage_lengths = self._clipped(self.data.passages.lengths)
        tokens = np.where(available, passage_lengths[np.where(available, pairs.negatives, 0)], 0).sum(axis=1)
        return lengths + np.ceil(tokens * drawn / np.maximum(available.sum(axis=1), 1)).astype(np.int64)

    def _clipped(self, lengths: np.ndarray) -> np.ndarray:
        return np.minimum(lengths + 2, self.max_tokens)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw negatives, lay all texts end to end, and find out which candidates must not count as negatives."""
        pairs, numbers = self.pairs, np.asarray(examples, dtype=np.int64)
        columns = self._draw(pairs.negatives[numbers], rng)
        rows = np.where(columns >= 0, np.take_along_axis(pairs.negatives[numbers], columns.clip(0), axis=1), -1)
        unique_rows = np.unique(rows[rows >= 0])
        queries = [pairs.queries[i] for i in numbers]
        candidates = [pairs.positives[i] for i in numbers] + [self.data.passages[row] for row in unique_rows]
        documents = np.concatenate([pairs.documents[numbers], self.data.documents[unique_rows]])
        excluded = _excluded(candidates, documents, len(numbers))
        own, teacher = self._taught(numbers, columns, rows, unique_rows)
        if own is not None:  # how they compare is the teacher's to say
            ranked = np.nonzero(rows >= 0)
            excluded[ranked[0], own.numpy()[:, 1:][ranked]] = True
        sequences = [self.tokenizer.with_specials(ids, self.max_tokens) for ids in queries + candidates]
        lengths = np.array([len(sequence) for sequence in sequences])
        pieces = tuple(pack(piece) for piece in _pieces(sequences, lengths, self.config.recompute_above))
        inputs = PairInputs(pieces, torch.from_numpy(excluded), own, teacher)
        return Batch(lengths, inputs, borders=(len(queries),))

    def _draw(self, negatives: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`int64[B, K]` columns of the negatives drawn for each query without repetition, -1 where there are fewer."""
        return draw_negatives(negatives, self.config.negatives, rng)

    def _taught(
        self, numbers: np.ndarray, columns: np.ndarray, rows: np.ndarray, unique_rows: np.ndarray
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """`own` and `teacher` of `PairInputs`."""
        if self.pairs.scores is None or self.config.distillation == 0:
            return None, None
        places = len(numbers) + np.searchsorted(unique_rows, np.maximum(rows, 0)).clip(0, max(0, len(unique_rows) - 1))
        own = np.column_stack([np.arange(len(numbers)), np.where(rows >= 0, places, 0)])
        scores = self.pairs.scores[numbers]
        drawn = np.where(columns >= 0, np.take_along_axis(scores[:, 1:], columns.clip(0), axis=1), np.nan)
        teacher = np.column_stack([scores[:, 0], drawn]).astype(np.float32)
        return torch.from_numpy(own), torch.from_numpy(np.where(np.isfinite(teacher), teacher, -np.inf))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """InfoNCE, and the divergence from the teacher where there is one."""
        inputs: PairInputs = batch.inputs
        vectors = self._encode(encoder, inputs.pieces)
        size = len(inputs.excluded)
        excluded = inputs.excluded.to(vectors.device)
        similarities = vectors[:size] @ vectors[size:].T / self.config.temperature
        logits = similarities.masked_fill(excluded, -torch.inf)
        answers = torch.arange(size, device=vectors.device)
        total = F.cross_entropy(logits, answers)
        if self.config.symmetric:
            total = (total + F.cross_entropy(logits[:, :size].T, answers)) / 2
        with torch.no_grad():
            first = float((logits.argmax(dim=1) == answers).float().mean())
        parts = {"info_nce": float(total.detach()), "accuracy": first}
        if inputs.own is not None and inputs.teacher is not None:
            divergence = self._divergence(similarities, inputs.own, inputs.teacher)
            parts["distillation"] = float(divergence.detach())
            total = total + self.config.distillation * divergence
        return Loss(total, float(size), parts)

    def _divergence(self, similarities: torch.Tensor, own: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Mean KL divergence over the queries of which the teacher ranked at least two candidates."""
        own, teacher = own.to(similarities.device), teacher.to(similarities.device)
        known = torch.isfinite(teacher)
        taught = known.sum(dim=1) > 1
        if not bool(taught.any()):
            return similarities.sum() * 0
        teacher, known = teacher[taught] / self.config.teacher_temperature, known[taught]
        student = similarities.gather(1, own)[taught].masked_fill(~known, -torch.inf)
        wanted = teacher.softmax(dim=1)
        difference = (teacher.log_softmax(dim=1) - student.log_softmax(dim=1)).masked_fill(~known, 0)
        return (wanted * difference).sum(dim=1).mean()

    def _encode(self, encoder: Encoder, pieces: Sequence[PackedBatch]) -> torch.Tensor:
        """`[B + C, D]` float32 vectors, of unit length where the checkpoint's are."""

        def vectors_of(packed: PackedBatch) -> torch.Tensor:
            return pool(encoder(packed), packed, self.pooling).float()

        device = next(encoder.parameters()).device
        on_device = [piece.to(device) for piece in pieces]
        if len(on_device) > 1 and torch.is_grad_enabled():
            vectors = [
                recomputed(vectors_of, piece, use_reentrant=False, preserve_rng_state=False) for piece in on_device
            ]
        else:
            vectors = [vectors_of(piece) for piece in on_device]
        joined = torch.cat(vectors)
        return F.normalize(joined, dim=-1) if self.normalize else joined


def _excluded(candidates: Sequence[np.ndarray], documents: np.ndarray, size: int) -> np.ndarray:
    """`bool[B, C]`: candidates of the same document, or with the same text, as a query's positive, itself apart."""
    known: dict[bytes, int] = {}
    texts = np.array([known.setdefault(ids.astype(np.uint32).tobytes(), len(known)) for ids in candidates])
    same_document = (documents[:size, None] == documents[None, :]) & (documents[:size, None] >= 0)
    excluded = same_document | (texts[:size, None] == texts[None, :])
    excluded[np.arange(size), np.arange(size)] = False
    return excluded


def _pieces(sequences: Sequence[np.ndarray], lengths: np.ndarray, most_tokens: int) -> list[Sequence[np.ndarray]]:
    """Consecutive runs of sequences, each of about `most_tokens`; all in one where they fit."""
    number = (np.cumsum(lengths) - 1) // most_tokens
    borders = [0, *(np.flatnonzero(np.diff(number)) + 1), len(sequences)]
    return [sequences[a:b] for a, b in pairwise(borders)]
