"""Self-attention distillation: a small model relates the tokens of a passage to each other as a large one does.

Queries, keys and values of the student's last layer and of one of the teacher's layers are cut into A parts of d
dimensions each, and what is learnt is how similar the teacher finds each two tokens in each part (`relations.py`):

    L = sum over relations (x, y)  1 / (A T) sum_{a, t} KL( R_teacher(x, y)[a, t] || R_student(x, y)[a, t] )

    R(x, y) = softmax( x y^T / sqrt(d) )

over the T tokens of a batch. With `relations = "self"`, MiniLMv2, the relations are (q, q), (k, k) and (v, v), and A is
free: depth, width and heads of the two models may all differ. With `relations = "attention"`, MiniLM, they are (q, k),
the attention distributions themselves, and (v, v), and the parts are the heads, of which both must have equally many.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: q, k, v `[T, D]` packed, R `[A, L, L]` for a passage of L tokens, never all held.
Nothing is dropped after training but the teacher, which is not part of the objective's state.

Where we depart from the papers or they are silent:
- Nothing asks for the states that come out of the student's last layer: its feed-forward part and output map stay what
  they were. Fine-tuning, or another objective beside this one in a sum, sees to them.
- A third part of the paper, a teacher assistant of middle size, is two runs of this objective.
- Layers that see a window are compared over the whole passage. Rotary positions are applied for attention alone, whose
  part they are.
- Means are over all tokens of a batch, so that it may be cut anywhere; the papers take them passage by passage.
- How many parts there are by default: the paper has 48 for a teacher of 768 dimensions and 64 for one of 1,024, 16 wide
  each. We take the most that divide both widths and leave the teacher's at least that wide.

Example:
    >>> config = SelfAttentionDistillationConfig(teacher="all-MiniLM-L6-v2")
    >>> objective = build_objective(config, data, student, seed=0)
    >>> train(student.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: `pretrained_distillation` learns what the teacher says, and not how it comes to it. `choose_layers` and
`slice_width` (growth) make a student of the teacher itself.

Citation: Wang, Wei, Dong, Bao, Yang, Zhou (2020), "MiniLM: Deep Self-Attention Distillation for Task-Agnostic
Compression of Pre-Trained Transformers", NeurIPS, section 3; Wang, Bao, Huang, Dong, Wei (2021), "MiniLMv2: Multi-Head
Self-Attention Relation Distillation for Compressing Pretrained Transformers", Findings of ACL, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.errors import ModelError
from corpusmith.model.attention import AttentionLayout
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.objective.base import Batch, Loss, PassageObjective
from corpusmith.objective.config import SelfAttentionDistillationConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.relations import projection_flops, projections, relation_divergence
from corpusmith.objective.teacher import Teacher

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

RELATIONS = {
    "self": {"queries": (0, 0), "keys": (1, 1), "values": (2, 2)},
    "attention": {"attention": (0, 1), "values": (2, 2)},
}
"""Which two of queries (0), keys (1) and values (2) each relation is of."""

TEACHERS_PART = 16
"""Dimensions of the teacher's parts, at least, where the options do not say how many there are."""


class SelfAttentionDistillation(PassageObjective):
    """Self-attention distillation; see the module's text.

    Attributes:
        teacher: who is learnt from.
        teacher_layer: its layer, from 1.
        relation_heads: A.

    Raises:
        ModelError: the teacher cannot be compared with the student.
    """

    def __init__(
        self, config: SelfAttentionDistillationConfig, data: TrainingData, checkpoint: Checkpoint, seed: int
    ) -> None:
        super().__init__(data, checkpoint)
        self.teacher = Teacher(config.teacher, checkpoint)
        ours, theirs = checkpoint.encoder.config, self.teacher.encoder.config
        self.teacher_layer = theirs.layers if config.teacher_layer is None else config.teacher_layer
        if self.teacher_layer > theirs.layers:
            raise ModelError(
                f"teacher_layer = {self.teacher_layer}, but the teacher {self.teacher.name} has {theirs.layers} layers."
            )
        self.relations = RELATIONS[config.relations]
        self.turned = config.relations == "attention"
        if self.turned and ours.heads != theirs.heads:
            raise ModelError(
                f"the teacher {self.teacher.name} has {theirs.heads} heads and the model that is trained {ours.heads}, "
                "so their attention cannot be compared; set relations = 'self'."
            )
        self.relation_heads = (
            ours.heads if self.turned else _relation_heads(config, ours.hidden_size, theirs.hidden_size)
        )

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages as they are."""
        packed = pack(self.sequences(examples))
        return Batch(packed.lengths.numpy().astype(np.int64), packed)

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The relations' mean divergences, added."""
        packed: PackedBatch = batch.inputs.to(next(encoder.parameters()).device)
        layout = AttentionLayout(packed.lengths, packed.ids.device)
        with torch.no_grad():
            theirs = projections(self.teacher.beside(encoder), packed, self.teacher_layer, layout, self.turned)
        ours = projections(encoder, packed, encoder.config.layers, layout, self.turned)
        units = self.relation_heads * len(packed.ids)
        losses = {
            name: relation_divergence((ours[x], ours[y]), (theirs[x], theirs[y]), layout, self.relation_heads) / units
            for name, (x, y) in self.relations.items()
        }
        parts = {name: float(loss.detach()) for name, loss in losses.items()}
        return Loss(torch.stack(list(losses.values())).sum(), float(len(packed.ids)), parts)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The student's layers below the last one, forward and backward; the teacher's, forward; and the relations of
        both."""
        lengths = batch.lengths.tolist()
        pairs = len(self.relations) * float((batch.lengths.astype(np.float64) ** 2).sum())
        teacher = self.teacher.encoder
        theirs = projection_flops(teacher, lengths, self.teacher_layer) + 2 * pairs * teacher.config.hidden_size
        ours = projection_flops(encoder, lengths, encoder.config.layers) + 2 * pairs * encoder.config.hidden_size
        return 3 * ours + theirs


def _relation_heads(config: SelfAttentionDistillationConfig, ours: int, theirs: int) -> int:
    """How many parts there are, for a student and a teacher of these widths.

    Raises:
        ModelError: those asked for do not divide both.
    """
    shared = math.gcd(ours, theirs)
    wanted = config.relation_heads
    if wanted is None:
        return max(n for n in range(1, shared + 1) if shared % n == 0 and (n == 1 or theirs // n >= TEACHERS_PART))
    if shared % wanted:
        raise ModelError(
            f"relation_heads = {wanted} does not divide the widths of the student ({ours}) and of the teacher "
            f"({theirs}); take a divisor of {shared}."
        )
    return wanted
