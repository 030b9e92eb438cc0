"""What a recipe may say about training, whatever the objective."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from corpusmith.config import Config


class TrainingConfig(Config):
    """Batches, optimiser, schedule, evaluation and checkpoints of one stage of training."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate of weights that come from the checkpoint; the objective's own default unless given."""

    fresh_learning_rate: float = Field(default=5e-4, gt=0)
    """Peak learning rate of weights drawn at random (a new head, a decoder)."""

    batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one optimiser step; the objective's own default unless given."""

    micro_batch_tokens: int = Field(default=8192, ge=1)
    """Tokens that pass through the encoder at a time; a larger batch is accumulated from parts of this size. It bounds
    memory and does not change what is learned."""

    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps during which the learning rate rises from 0 to its peak. 0 to 1."""

    decay: float = Field(default=0.3, ge=0, le=1)
    """Share of the steps, the last ones, during which the learning rate falls to 0. 0 to 1."""

    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of weight matrices; biases, norms and embeddings have none."""

    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all weights together; larger ones are scaled down to it."""

    max_epochs: float = Field(default=10.0, gt=0)
    """Training ends after this many passes over the examples, even if the budget is not used up."""

    evaluations: int = Field(default=6, ge=0)
    """How many times, evenly spread and ending with the last step, the model is evaluated during training. The
    starting point is evaluated as well. 0 switches evaluation off."""

    keep_best: bool = True
    """End with the weights of the best evaluation, the starting point included, rather than with the last ones."""

    patience: int | None = Field(default=None, ge=1)
    """Stop after this many evaluations in a row that brought no better score; never, unless given."""

    held_out: int = Field(default=0, ge=0)
    """Examples set aside: never trained on, their loss is logged at each evaluation. Where there is no other
    validation, the model with the smallest such loss is the best."""

    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """A checkpoint is written when this much time has passed since the last one, and at each evaluation. Minutes; 0
    writes one after every step. Does not change the result."""

    precision: Literal["auto", "bf16", "float32"] = "auto"
    """Arithmetic of the encoder's products; weights and their updates are float32 in any case. "auto" takes bf16 where
    it is clearly the faster, which is measured once for a kind of processor."""

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup = {self.warmup} and decay = {self.decay} add up to more than 1")
        return self
