"""Options of objectives that bring texts together and keep others apart."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from corpusmith.objective.options.base import Need, ObjectiveOptions


class ContrastiveConfig(ObjectiveOptions):
    """Contrastive pairs: a query lies nearer to its own passage than to all others of the batch."""

    kind: Literal["contrastive"] = "contrastive"
    """Contrastive learning on pairs."""

    temperature: float = Field(default=0.05, gt=0)
    """Cosines are divided by it before the softmax. Above 0; smaller looks harder at the nearest wrong passages."""

    negatives: int = Field(default=1, ge=0)
    """Mined negatives drawn for each query, of those the pairs have. 0 or more; each costs one more passage."""

    symmetric: bool = False
    """Also ask each passage for its query among the batch's queries."""

    distillation: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the teacher's ranking of a query's own candidates, where pairs carry a teacher's
    scores. 0 leaves the teacher out."""

    teacher_temperature: float = Field(default=1.0, gt=0)
    """The teacher's scores are divided by it before the softmax. Above 0; it depends on the scale of the scores."""

    recompute_above: int = Field(default=16384, ge=1)
    """Batches of more tokens are encoded in pieces of about this size whose activations are computed a second time
    in the backward pass: a quarter slower, and memory no longer grows with the batch. Tokens."""

    def needs(self) -> frozenset[Need]:
        """Pairs."""
        return frozenset({"pairs"})
