"""Which growth operators there are: the one place that knows all of them.

A new operator is listed here and its options in `config.GrowthConfig`; nothing else has to change. Operators are named
by module, and imported when one is built: checking a recipe needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from corpusmith.growth.config import GrowthConfig

if TYPE_CHECKING:
    from corpusmith.growth.base import GrowthOperator

__all__ = ["GROWTH", "GrowthConfig", "build_operator", "operator_class"]

GROWTH = {
    "fpi": ("corpusmith.growth.fpi", "FunctionPreserving"),
    "aki": ("corpusmith.growth.aki", "AdvancedKnowledge"),
    "ligo": ("corpusmith.growth.ligo", "LiGO"),
    "mango": ("corpusmith.growth.mango", "Mango"),
    "mixture": ("corpusmith.growth.mixture", "Mixture"),
    "stack": ("corpusmith.growth.stack", "Stack"),
    "interleave": ("corpusmith.growth.interleave", "Interleave"),
    "depth_upscaling": ("corpusmith.growth.depth_upscaling", "DepthUpscaling"),
    "identity": ("corpusmith.growth.identity", "Identity"),
    "choose_layers": ("corpusmith.growth.choose_layers", "ChooseLayers"),
    "slice_width": ("corpusmith.growth.slice_width", "SliceWidth"),
}
"""Module and class of each kind of growth operator."""


def operator_class(kind: str) -> type[GrowthOperator]:
    """The class of this kind of operator.

    Raises:
        KeyError: there is none; recipes are checked before they get here.
    """
    module, name = GROWTH[kind]
    return getattr(import_module(module), name)


def build_operator(config: GrowthConfig) -> GrowthOperator:
    """The operator that `config` asks for; all of them are built from their options alone."""
    build: Callable[..., GrowthOperator] = operator_class(config.kind)
    return build(config)
