"""Options of objectives that restore a damaged passage, or tell where it was damaged."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from corpusmith.objective.options.base import ObjectiveOptions
from corpusmith.objective.options.language import MaskingConfig


class GeneratorConfig(MaskingConfig):
    """Which tokens a small generator replaces, and how large it is."""

    mask_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the chosen tokens that the generator sees as the mask token. 0 to 1."""

    random_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the chosen tokens that the generator sees as a random token. 0 to 1; what is left of the two shares it
    sees as it is."""

    generator_width: float = Field(default=0.25, gt=0, le=1)
    """Width of the generator as a share of the encoder's, in whole attention heads; it has as many layers. Above 0, at
    most 1; a strong generator leaves too little that can be told from the original."""


class WeakDecoderConfig(MaskingConfig):
    """What a weak decoder that is given a vector sees beside it."""

    decoder_masking_rate: float = Field(default=0.5, gt=0, lt=1)
    """Share of the tokens that the decoder does not see as they are. Not below `masking_rate`, below 1; more makes the
    vector carry more."""

    decoder_layers: int = Field(default=2, ge=1, le=6)
    """Layers of the decoder. 1 to 6; fewer make the vector carry more."""

    @model_validator(mode="after")
    def _decoder_sees_less(self) -> Self:
        if self.decoder_masking_rate < self.masking_rate:
            raise ValueError(
                f"decoder_masking_rate = {self.decoder_masking_rate} is below masking_rate = {self.masking_rate}"
            )
        return self


class ElectraConfig(GeneratorConfig):
    """ELECTRA: tell which tokens a small generator has replaced."""

    kind: Literal["electra"] = "electra"
    """Replaced token detection."""

    masking_rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of a passage's tokens that the generator fills in anew (special tokens apart). Above 0, below 1."""

    detection_weight: float = Field(default=50.0, gt=0)
    """Weight of the encoder's loss, a choice of two for each token, beside the generator's, a choice among all words.
    Above 0."""


class SimLMConfig(GeneratorConfig, WeakDecoderConfig):
    """SimLM: encoder, and a weak decoder with the encoder's vector, restore passages that a generator has changed."""

    kind: Literal["simlm"] = "simlm"
    """SimLM."""

    masking_rate: float = Field(default=0.3, gt=0, lt=1)
    """Share of a passage's tokens that the generator fills in anew for the encoder. Above 0, below 1."""

    whole_words: bool = True
    """Choose all pieces of a word together, so that a word cannot be guessed from its other pieces."""

    generator_weight: float = Field(default=0.2, gt=0)
    """Weight of the generator's loss. Above 0."""


class SeedEncoderConfig(MaskingConfig):
    """SEED-Encoder: a weak decoder tells the passage from left to right, from its vector and the last few tokens."""

    kind: Literal["seed_encoder"] = "seed_encoder"
    """SEED-Encoder."""

    masking_rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of a passage's tokens that the encoder must predict (special tokens apart). Above 0, below 1."""

    decoder_layers: int = Field(default=3, ge=1, le=6)
    """Layers of the decoder. 1 to 6."""

    decoder_span: int = Field(default=2, ge=1)
    """How many of the last tokens a layer of the decoder sees beside the vector. 1 or more; fewer make the vector
    carry more."""


class CoTMAEConfig(WeakDecoderConfig):
    """CoT-MAE: a weak decoder restores a span from the vector of its neighbour in the document."""

    kind: Literal["cot_mae"] = "cot_mae"
    """CoT-MAE."""

    whole_words: bool = True
    """Hide all pieces of a word together, so that a word cannot be guessed from its other pieces."""

    decoder_masking_rate: float = Field(default=0.45, gt=0, lt=1)
    """Share of a span's tokens that is hidden from the decoder. Not below `masking_rate`, below 1; more makes the
    neighbour's vector carry more."""


class TSDAEConfig(ObjectiveOptions):
    """TSDAE: tell the whole passage from the vector of what is left of it after deletions."""

    reconstructs: ClassVar[bool] = True

    kind: Literal["tsdae"] = "tsdae"
    """TSDAE."""

    deletion_rate: float = Field(default=0.6, ge=0, lt=1)
    """Share of a passage's tokens that are deleted before it is encoded; one is always left. 0 to below 1."""
