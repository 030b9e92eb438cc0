"""What a recipe may say about objectives.

The options of all objectives stand here, beside the files that hold the objectives, and not inside them: a recipe is
checked before anything heavy is imported, and an objective cannot exist without torch. `kind` selects the objective;
the file of that name explains it. The docstring under each option is its entry in the reference.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from corpusmith.config import Config


class MaskingConfig(Config):
    """Which tokens are hidden from the encoder, and what stands in their place."""

    masking_rate: float = Field(default=0.3, gt=0, lt=1)
    """Share of a passage's tokens that the encoder must predict (special tokens apart). Above 0, below 1; BERT took
    0.15, later work found 0.3 to 0.4 better for small encoders."""

    mask_share: float = Field(default=0.8, ge=0, le=1)
    """Share of the chosen tokens that the mask token replaces. 0 to 1."""

    random_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the chosen tokens that a random token replaces. 0 to 1; what is left of the two shares stays as it
    is, and is predicted all the same."""

    whole_words: bool = False
    """Hide all pieces of a word together, so that a word cannot be guessed from its other pieces."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.mask_share + self.random_share > 1:
            raise ValueError(
                f"mask_share = {self.mask_share} and random_share = {self.random_share} add up to more than 1"
            )
        return self


class MaskedLanguageConfig(MaskingConfig):
    """Masked language modelling: predict hidden tokens from those around them."""

    kind: Literal["masked_language"] = "masked_language"
    """Masked language modelling."""


class RetroMAEConfig(MaskingConfig):
    """RetroMAE: a weak decoder must rebuild the passage from its vector, so that the vector learns what it says."""

    kind: Literal["retromae"] = "retromae"
    """RetroMAE."""

    whole_words: bool = True
    """Hide all pieces of a word together, so that a word cannot be guessed from its other pieces."""

    visible_rate: float = Field(default=0.5, ge=0, lt=1)
    """Share of the other tokens that each position of the decoder sees beside the passage's vector. 0 to below 1;
    less makes the vector carry more."""


class ContrastiveConfig(Config):
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


ObjectiveConfig = Annotated[MaskedLanguageConfig | RetroMAEConfig | ContrastiveConfig, Field(discriminator="kind")]
"""Any objective's options; `kind` says which."""
