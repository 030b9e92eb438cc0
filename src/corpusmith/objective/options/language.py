"""Options of objectives that name hidden or replaced tokens."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from corpusmith.objective.options.base import ObjectiveOptions


class MaskingConfig(ObjectiveOptions):
    """Which tokens are hidden from the encoder, and what stands in their place."""

    reconstructs: ClassVar[bool] = True

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

    choose: Literal["random", "importance"] = "random"
    """Which tokens are hidden. 'random': all alike. 'importance': the likelier, the larger a token's BM25 weight is in
    its passage, so that stop words and punctuation are seldom asked for; the rate stays the same."""

    final_rate: float | None = Field(default=None, gt=0, lt=1)
    """Masking rate at the end of training, reached from `masking_rate` in a straight line. Above 0, below 1; the rate
    never changes unless given."""

    final_mask_share: float | None = Field(default=None, ge=0, le=1)
    """Mask share at the end of training, reached from `mask_share` in a straight line. 0 to 1; it never changes unless
    given."""

    strategy_from: float = Field(default=0.0, ge=0, lt=1)
    """Share of training from which on `choose` and `whole_words` hold; before that single tokens are hidden at random.
    0 to below 1."""

    @property
    def varies(self) -> bool:
        """Whether masking changes over training."""
        return self.final_rate is not None or self.final_mask_share is not None or self.strategy_from > 0

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        for name in ("mask_share", "final_mask_share"):
            share = getattr(self, name)
            if share is not None and share + self.random_share > 1:
                raise ValueError(f"{name} = {share} and random_share = {self.random_share} add up to more than 1")
        return self


class MaskedLanguageConfig(MaskingConfig):
    """Masked language modelling: predict hidden tokens from those around them."""

    kind: Literal["masked_language"] = "masked_language"
    """Masked language modelling."""
