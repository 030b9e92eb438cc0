"""Any objective's options: the union of those in `options`, from which `kind` selects."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from corpusmith.objective.options.bottleneck import RetroMAEConfig
from corpusmith.objective.options.contrast import ContrastiveConfig
from corpusmith.objective.options.denoising import (
    CoTMAEConfig,
    ElectraConfig,
    SeedEncoderConfig,
    SimLMConfig,
    TSDAEConfig,
)
from corpusmith.objective.options.language import MaskedLanguageConfig, MaskingConfig

__all__ = [
    "CoTMAEConfig",
    "ContrastiveConfig",
    "ElectraConfig",
    "MaskedLanguageConfig",
    "MaskingConfig",
    "ObjectiveConfig",
    "RetroMAEConfig",
    "SeedEncoderConfig",
    "SimLMConfig",
    "TSDAEConfig",
]

ObjectiveConfig = Annotated[
    MaskedLanguageConfig
    | RetroMAEConfig
    | ContrastiveConfig
    | CoTMAEConfig
    | ElectraConfig
    | SeedEncoderConfig
    | SimLMConfig
    | TSDAEConfig,
    Field(discriminator="kind"),
]
"""Any objective's options; `kind` says which."""
