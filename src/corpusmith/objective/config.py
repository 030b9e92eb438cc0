"""Any objective's options: the unions of those in `options`, from which `kind` selects."""

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
from corpusmith.objective.options.contrast import (
    ContrastiveConfig,
    ContrieverConfig,
    ICTConfig,
    LaPraDoRConfig,
    SimCSEConfig,
    SpiderConfig,
)
from corpusmith.objective.options.cross_encoder import PropConfig, RerankingConfig
from corpusmith.objective.options.denoising import (
    CoTMAEConfig,
    ElectraConfig,
    SeedEncoderConfig,
    SimLMConfig,
    TSDAEConfig,
)
from corpusmith.objective.options.distillation import PretrainedDistillationConfig, SelfAttentionDistillationConfig
from corpusmith.objective.options.language import MaskedLanguageConfig
from corpusmith.objective.options.nested import (
    Matryoshka2dConfig,
    MatryoshkaConfig,
    StarbucksConfig,
    SubstructuresConfig,
    SumConfig,
    TermConfig,
)

__all__ = [
    "BagOfWordsConfig",
    "CoCondenserConfig",
    "CoTMAEConfig",
    "CondenserConfig",
    "ContrastiveConfig",
    "ContrieverConfig",
    "DupMAEConfig",
    "ElectraConfig",
    "ICTConfig",
    "LaPraDoRConfig",
    "MaskedLanguageConfig",
    "Matryoshka2dConfig",
    "MatryoshkaConfig",
    "ObjectiveConfig",
    "PretrainedDistillationConfig",
    "PropConfig",
    "RerankingConfig",
    "RetroMAEConfig",
    "SeedEncoderConfig",
    "SelfAttentionDistillationConfig",
    "SimCSEConfig",
    "SimLMConfig",
    "SpiderConfig",
    "StarbucksConfig",
    "SubstructuresConfig",
    "SumConfig",
    "SummandConfig",
    "TSDAEConfig",
    "TermConfig",
    "WrappedConfig",
]

WrappedConfig = Annotated[MaskedLanguageConfig | RetroMAEConfig | ContrastiveConfig, Field(discriminator="kind")]
"""What may be asked of models inside the model: objectives that want nothing of an encoder but its last states."""

_Plain = (
    MaskedLanguageConfig
    | RetroMAEConfig
    | DupMAEConfig
    | BagOfWordsConfig
    | CondenserConfig
    | CoCondenserConfig
    | SimLMConfig
    | SeedEncoderConfig
    | CoTMAEConfig
    | TSDAEConfig
    | ElectraConfig
    | PropConfig
    | RerankingConfig
    | ContrastiveConfig
    | ICTConfig
    | SpiderConfig
    | ContrieverConfig
    | LaPraDoRConfig
    | SimCSEConfig
    | PretrainedDistillationConfig
    | SelfAttentionDistillationConfig
)
_Summand = _Plain | MatryoshkaConfig | Matryoshka2dConfig | StarbucksConfig | SubstructuresConfig

SummandConfig = Annotated[_Summand, Field(discriminator="kind")]
"""Any objective but a sum."""

ObjectiveConfig = Annotated[_Summand | SumConfig, Field(discriminator="kind")]
"""Any objective's options; `kind` says which."""

for _composite in (MatryoshkaConfig, Matryoshka2dConfig, StarbucksConfig, SubstructuresConfig, TermConfig, SumConfig):
    _composite.model_rebuild()  # now that what may stand inside them is known
