"""Any objective's options: the union of those in `options`, from which `kind` selects."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from corpusmith.objective.options.bottleneck import (
    BagOfWordsConfig,
    CoCondenserConfig,
    CondenserConfig,
    DupMAEConfig,
    RetroMAEConfig,
)
from corpusmith.objective.options.contrast import ContrastiveConfig
from corpusmith.objective.options.language import MaskedLanguageConfig, MaskingConfig

__all__ = [
    "BagOfWordsConfig",
    "CoCondenserConfig",
    "CondenserConfig",
    "ContrastiveConfig",
    "DupMAEConfig",
    "MaskedLanguageConfig",
    "MaskingConfig",
    "ObjectiveConfig",
    "RetroMAEConfig",
]

ObjectiveConfig = Annotated[
    MaskedLanguageConfig
    | BagOfWordsConfig
    | CoCondenserConfig
    | CondenserConfig
    | DupMAEConfig
    | RetroMAEConfig
    | ContrastiveConfig,
    Field(discriminator="kind"),
]
"""Any objective's options; `kind` says which."""
