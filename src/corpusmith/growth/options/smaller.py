"""Options of operators that make a model smaller, as the start of a distilled one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from corpusmith.growth.options.base import GrowthOptions


class ChooseLayersConfig(GrowthOptions):
    """A choice of layers: a smaller model of some of the layers."""

    kind: Literal["choose_layers"] = "choose_layers"
    """Some of the layers."""

    which: Literal["spread", "first", "last", "ends"] = "spread"
    """Which layers stay. 'spread': evenly, the first and the last among them. 'first', 'last': the lowest, the highest.
    'ends': half of them the lowest and half the highest."""


class SliceWidthConfig(GrowthOptions):
    """A slice of the width: a smaller model of the most important dimensions, heads and neurons."""

    kind: Literal["slice_width"] = "slice_width"
    """Some of the dimensions, heads and neurons."""

    by: Literal["magnitude", "loss"] = "magnitude"
    """What makes a unit important. 'magnitude': the size of its weights. 'loss': how much the training loss would
    change without its weights, to first order; needs an objective."""

    batches: int = Field(default=8, ge=1)
    """Batches that importance by loss is estimated from. At least 1."""
