"""A sum: several objectives at once, their losses added with weights.

    L = sum_k w_k L_k,        each L_k the mean over its own units (hidden tokens, pairs)

The first term leads: a batch is made of its examples. A term that trains on the very same passages takes the same ones;
every other term draws examples of its own, at random, of about as many tokens as the lead's part of the batch. Each
term makes its own inputs of them and runs the encoder on these.

| input                       | what it is                                        |
|-----------------------------|---------------------------------------------------|
| whatever any term needs     | passages, pairs or links of one `TrainingData`    |

All terms share one masked-language head. After training each leaves behind, and keeps, what it would if it stood alone,
under its own kind; a later stage with the same objective finds it.

Where we chose:
- An example's length is its lead's, times the number of terms: a batch then has the tokens that the recipe asks for,
  the further terms' included, and a step costs what one of any other objective costs.
- The batch is never cut into micro-batches: each loss is a mean over all its units, which a batch in parts would not
  keep.
- Dropout is the highest that any term asks for; it is one setting of the encoder.
- What is held out is held out of the lead's examples (and of those that take the same passages).

Example:
    >>> terms = (TermConfig(objective=RetroMAEConfig()), TermConfig(objective=ContrastiveConfig(), weight=0.1))
    >>> objective = build_objective(SumConfig(terms=terms), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: stages, one objective after the other, are the alternative; a sum keeps the second from undoing the first.

Citation: Caruana (1997), "Multitask Learning", for learning several tasks with one set of weights; Gao, Callan (2022),
"Unsupervised Corpus Aware Language Model Pre-training for Dense Passage Retrieval", section 3.2, for a masked-language
loss and a contrastive one added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.objective.base import Batch, Loss, Objective, PassageObjective
from corpusmith.objective.composite import Composite, Nested
from corpusmith.objective.config import SumConfig
from corpusmith.objective.data import TrainingData

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class Sum(Composite):
    """A weighted sum of objectives; see the module's text. The inputs of its batches are the terms' own batches."""

    divisible = False

    def __init__(self, config: SumConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__([term.objective for term in config.terms], data, checkpoint, seed)
        self.divisible = False  # whatever its terms are; see the module's text
        self.weights = [term.weight for term in config.terms]
        passages = [_passages(member) for member in self.members]
        self.follows = [len(rows) > 0 and np.array_equal(rows, passages[0]) for rows in passages]
        self._lengths = [member.lengths() for member in self.members]

    def lengths(self) -> np.ndarray:
        """`int64[N]`: what each example of the lead costs, with what the further terms add to it."""
        return self._lengths[0] * len(self.members)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """The lead's batch of these examples, then each further term's of the same or of its own."""
        batches = [self.members[0].collate(examples, rng)]
        for member, follows, lengths in zip(self.members[1:], self.follows[1:], self._lengths[1:], strict=True):
            own = examples if follows else _draw(lengths, batches[0].tokens, rng)
            batches.append(member.collate(own, rng))
        starts = np.cumsum([0, *(len(batch.lengths) for batch in batches)])
        borders = [
            int(start) + border for start, batch in zip(starts, batches, strict=False) for border in (0, *batch.borders)
        ]
        return Batch(np.concatenate([batch.lengths for batch in batches]), tuple(batches), tuple(borders[1:]))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The weighted sum; its parts are named after the terms."""
        losses = [member.loss(encoder, part) for member, part in zip(self.members, batch.inputs, strict=True)]
        total = torch.stack([weight * loss.total for weight, loss in zip(self.weights, losses, strict=True)]).sum()
        parts: dict[str, float] = {}
        for kind, loss in zip(self.kinds, losses, strict=True):
            parts[kind] = float(loss.total.detach())
            parts |= {f"{kind}.{name}": value for name, value in loss.parts.items()}
        units = next((loss.weight for loss in losses if loss.weight), 0.0)
        return Loss(total, units, parts)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The terms', added."""
        return sum(member.flops(encoder, part) for member, part in zip(self.members, batch.inputs, strict=True))


def _passages(objective: Objective) -> np.ndarray:
    """The passage of each of its examples, none where they are no passages."""
    inner = objective.inner if isinstance(objective, Nested) else objective
    return inner.rows if isinstance(inner, PassageObjective) else np.zeros(0, dtype=np.int64)


def _draw(lengths: np.ndarray, tokens: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of examples, drawn without repetition until they have about so many tokens; at least one."""
    likely = int(2 * tokens / lengths.mean()) + 2
    drawn = rng.choice(len(lengths), min(len(lengths), likely), replace=False)
    within = np.searchsorted(np.cumsum(lengths[drawn]), tokens, side="right")
    return drawn[: max(1, int(within))]
