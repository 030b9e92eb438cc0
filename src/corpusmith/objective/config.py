"""Any objective's options: the union of those in `options`, from which `kind` selects."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from corpusmith.objective.options.bottleneck import RetroMAEConfig
from corpusmith.objective.options.contrast import ContrastiveConfig
from corpusmith.objective.options.cross_encoder import PropConfig, RerankingConfig
from corpusmith.objective.options.language import MaskedLanguageConfig, MaskingConfig

__all__ = [
    "ContrastiveConfig",
    "MaskedLanguageConfig",
    "MaskingConfig",
    "ObjectiveConfig",
    "PropConfig",
    "RerankingConfig",
    "RetroMAEConfig",
]

ObjectiveConfig = Annotated[
    MaskedLanguageConfig | RetroMAEConfig | ContrastiveConfig | PropConfig | RerankingConfig,
    Field(discriminator="kind"),
]
"""Any objective's options; `kind` says which."""
