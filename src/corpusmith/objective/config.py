"""Any objective's options: the union of those in `options`, from which `kind` selects."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from corpusmith.objective.options.bottleneck import RetroMAEConfig
from corpusmith.objective.options.contrast import (
    ContrastiveConfig,
    ContrieverConfig,
    ICTConfig,
    InfoNCEConfig,
    LaPraDoRConfig,
    QueueConfig,
    SentenceConfig,
    SimCSEConfig,
    SpiderConfig,
)
from corpusmith.objective.options.language import MaskedLanguageConfig, MaskingConfig

__all__ = [
    "ContrastiveConfig",
    "ContrieverConfig",
    "ICTConfig",
    "InfoNCEConfig",
    "LaPraDoRConfig",
    "MaskedLanguageConfig",
    "MaskingConfig",
    "ObjectiveConfig",
    "QueueConfig",
    "RetroMAEConfig",
    "SentenceConfig",
    "SimCSEConfig",
    "SpiderConfig",
]

ObjectiveConfig = Annotated[
    MaskedLanguageConfig
    | RetroMAEConfig
    | ContrastiveConfig
    | ContrieverConfig
    | ICTConfig
    | LaPraDoRConfig
    | SimCSEConfig
    | SpiderConfig,
    Field(discriminator="kind"),
]
"""Any objective's options; `kind` says which."""
