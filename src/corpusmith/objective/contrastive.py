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
once. The batch is never cut into micro-batches, since every text is every query's negative; how large ones are kept
within memory, `info_nce` says.

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
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.errors import CorpusError
from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch, Loss
from corpusmith.objective.config import ContrastiveConfig
from corpusmith.objective.data import PairSet, TrainingData, draw_negatives
from corpusmith.objective.info_nce import InfoNCEObjective, PairInputs, excluded_candidates, info_nce

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class TaughtInputs(PairInputs):
    """With what a teacher says: `own` (int64 `[B, 1+K]`) are the candidates that it ranked for a query and `teacher`
    (float32 `[B, 1+K]`) its scores, -inf where there is none; None without a teacher."""

    own: torch.Tensor | None
    teacher: torch.Tensor | None


class Contrastive(InfoNCEObjective):
    """InfoNCE over (query, passage) pairs; see the module's text."""

    config: ContrastiveConfig

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
        lengths = self.clipped(pairs.queries.lengths) + self.clipped(pairs.positives.lengths)
        available = pairs.negatives >= 0
        drawn = np.minimum(available.sum(axis=1), self.config.negatives)
        passage_lengths = self.clipped(self.data.passages.lengths)
        tokens = np.where(available, passage_lengths[np.where(available, pairs.negatives, 0)], 0).sum(axis=1)
        return lengths + np.ceil(tokens * drawn / np.maximum(available.sum(axis=1), 1)).astype(np.int64)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw negatives, lay all texts end to end, and find out which candidates must not count as negatives."""
        pairs, numbers = self.pairs, np.asarray(examples, dtype=np.int64)
        columns = self._draw(pairs.negatives[numbers], rng)
        rows = np.where(columns >= 0, np.take_along_axis(pairs.negatives[numbers], columns.clip(0), axis=1), -1)
        unique_rows = np.unique(rows[rows >= 0])
        queries = [pairs.queries[i] for i in numbers]
        candidates = [pairs.positives[i] for i in numbers] + [self.data.passages[row] for row in unique_rows]
        documents = np.concatenate([pairs.documents[numbers], self.data.documents[unique_rows]])
        excluded = excluded_candidates(candidates, documents, len(numbers))
        own, teacher = self._taught(numbers, columns, rows, unique_rows)
        if own is not None:  # how they compare is the teacher's to say
            ranked = np.nonzero(rows >= 0)
            excluded[ranked[0], own.numpy()[:, 1:][ranked]] = True
        pieces, lengths = self.pieces_of(queries + candidates)
        inputs = TaughtInputs(pieces, torch.from_numpy(excluded), own, teacher)
        return Batch(lengths, inputs, borders=(len(queries),))

    def _draw(self, negatives: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`int64[B, K]` columns of the negatives drawn for each query without repetition, -1 where there are fewer."""
        return draw_negatives(negatives, self.config.negatives, rng)

    def _taught(
        self, numbers: np.ndarray, columns: np.ndarray, rows: np.ndarray, unique_rows: np.ndarray
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """`own` and `teacher` of `TaughtInputs`."""
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
        inputs: TaughtInputs = batch.inputs
        similarities = self.similarities(encoder, inputs)
        total, accuracy = info_nce(similarities, inputs.excluded, symmetric=self.config.symmetric)
        parts = {"info_nce": float(total.detach()), "accuracy": accuracy}
        if inputs.own is not None and inputs.teacher is not None:
            divergence = self._divergence(similarities, inputs.own, inputs.teacher)
            parts["distillation"] = float(divergence.detach())
            total = total + self.config.distillation * divergence
        return Loss(total, float(len(inputs.excluded)), parts)

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
