"""Any objective's options: the union of those in `options`, from which `kind` selects."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from corpusmith.objective.options.bottleneck import RetroMAEConfig
from corpusmith.objective.options.contrast import ContrastiveConfig
from corpusmith.objective.options.language import MaskedLanguageConfig, MaskingConfig
from corpusmith.objective.options.nested import (
    Matryoshka2dConfig,
    MatryoshkaConfig,
    StarbucksConfig,
    SumConfig,
    TermConfig,
)

__all__ = [
    "ContrastiveConfig",
    "MaskedLanguageConfig",
    "MaskingConfig",
    "Matryoshka2dConfig",
    "MatryoshkaConfig",
    "ObjectiveConfig",
    "RetroMAEConfig",
    "StarbucksConfig",
    "SumConfig",
    "SummandConfig",
    "TermConfig",
    "WrappedConfig",
]

WrappedConfig = Annotated[MaskedLanguageConfig | RetroMAEConfig | ContrastiveConfig, Field(discriminator="kind")]
"""What may be asked of models inside the model: objectives that want nothing of an encoder but its last states."""

_Plain = MaskedLanguageConfig | RetroMAEConfig | ContrastiveConfig
_Summand = _Plain | MatryoshkaConfig | Matryoshka2dConfig | StarbucksConfig

SummandConfig = Annotated[_Summand, Field(discriminator="kind")]
"""Any objective but a sum."""

ObjectiveConfig = Annotated[_Summand | SumConfig, Field(discriminator="kind")]
"""Any objective's options; `kind` says which."""

for _composite in (MatryoshkaConfig, Matryoshka2dConfig, StarbucksConfig, TermConfig, SumConfig):
    _composite.model_rebuild()  # now that what may stand inside them is known
