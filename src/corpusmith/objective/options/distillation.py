"""Options of objectives by which a student learns from a teacher."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from corpusmith.objective.options.base import ObjectiveOptions
from corpusmith.objective.options.language import MaskingConfig


class TeacherOptions(ObjectiveOptions):
    """Whom the student learns from."""

    teacher: str | None = Field(default=None, min_length=1)
    """The teacher: a folder with a checkpoint, or a name known here; it must have the student's tokenizer. Unless given
    the model as it is when this training begins: beside another objective in a sum, that holds it near itself."""

    def models(self) -> tuple[str, ...]:
        """The teacher, where it is another model."""
        return () if self.teacher is None else (self.teacher,)


class SelfAttentionDistillationConfig(TeacherOptions):
    """Self-attention distillation: tokens of a passage are related to each other as a teacher relates them."""

    kind: Literal["self_attention_distillation"] = "self_attention_distillation"
    """Self-attention distillation (MiniLM)."""

    relations: Literal["self", "attention"] = "self"
    """What is related to what. 'self': queries to queries, keys to keys, values to values (MiniLMv2). 'attention':
    queries to keys, which is attention, and values to values (MiniLM); both models then need equally many heads."""

    relation_heads: int | None = Field(default=None, ge=1)
    """Parts that queries, keys and values are cut into before they are related, a divisor of both models' widths; only
    with 'self'. Unless given as many as leave the teacher's parts 16 or more wide."""

    teacher_layer: int | None = Field(default=None, ge=1)
    """The teacher's layer to learn from, counted from 1. The last one unless given; of large teachers one below it is
    better, in the paper the 21st or 19th of 24."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.relations == "attention" and self.relation_heads is not None:
            raise ValueError("relation_heads is for relations = 'self'; attention is compared head by head")
        return self


class PretrainedDistillationConfig(TeacherOptions, MaskingConfig):
    """Pretrained distillation: hidden tokens are named as a teacher names them, with all that it thinks likely."""

    kind: Literal["pretrained_distillation"] = "pretrained_distillation"
    """Distillation of a masked language model."""

    temperature: float = Field(default=1.0, gt=0)
    """Logits of both models are divided by it before the softmax. Above 0; 1 in Turc et al., 2 in DistilBERT."""

    named_weight: float = Field(default=0.0, ge=0)
    """Weight of naming the tokens that stood there, as in masked language modelling. 0 leaves it out."""

    states_weight: float = Field(default=0.0, ge=0)
    """Weight of the angle between both models' last states, 1 - cosine, at the hidden tokens; needs models of one
    width. 0 leaves it out."""
