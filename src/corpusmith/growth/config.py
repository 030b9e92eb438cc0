"""Any growth operator's options: the union of those in `options`, from which `kind` selects."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from corpusmith.growth.options.learned import LiGOConfig, MangoConfig
from corpusmith.growth.options.width import AKIConfig, FPIConfig, MixtureConfig

__all__ = [
    "AKIConfig",
    "FPIConfig",
    "GrowthConfig",
    "LiGOConfig",
    "MangoConfig",
    "MixtureConfig",
]

GrowthConfig = Annotated[
    FPIConfig | AKIConfig | LiGOConfig | MangoConfig | MixtureConfig,
    Field(discriminator="kind"),
]
"""Any growth operator's options; `kind` says which."""
