"""Any growth operator's options: the union of those in `options`, from which `kind` selects."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from corpusmith.growth.options.depth import DepthUpscalingConfig, IdentityConfig, InterleaveConfig, StackConfig
from corpusmith.growth.options.learned import LiGOConfig, MangoConfig
from corpusmith.growth.options.smaller import ChooseLayersConfig, SliceWidthConfig
from corpusmith.growth.options.width import AKIConfig, FPIConfig, MixtureConfig

__all__ = [
    "AKIConfig",
    "ChooseLayersConfig",
    "DepthUpscalingConfig",
    "FPIConfig",
    "GrowthConfig",
    "IdentityConfig",
    "InterleaveConfig",
    "LiGOConfig",
    "MangoConfig",
    "MixtureConfig",
    "SliceWidthConfig",
    "StackConfig",
]

GrowthConfig = Annotated[
    FPIConfig
    | AKIConfig
    | LiGOConfig
    | MangoConfig
    | MixtureConfig
    | StackConfig
    | InterleaveConfig
    | DepthUpscalingConfig
    | IdentityConfig
    | ChooseLayersConfig
    | SliceWidthConfig,
    Field(discriminator="kind"),
]
"""Any growth operator's options; `kind` says which."""
