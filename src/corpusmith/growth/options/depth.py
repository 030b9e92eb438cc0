"""Options of operators that make a model deeper."""

from __future__ import annotations

from typing import Literal

from corpusmith.growth.options.base import GrowthOptions


class StackConfig(GrowthOptions):
    """Stacking: the whole stack of layers several times over."""

    kind: Literal["stack"] = "stack"
    """G_stack, StackBERT."""


class InterleaveConfig(GrowthOptions):
    """Interleaving: each layer repeated in place."""

    kind: Literal["interleave"] = "interleave"
    """Interleaved copies."""


class DepthUpscalingConfig(GrowthOptions):
    """Depth up-scaling: two copies of the stack, without the layers that would meet at the seam."""

    kind: Literal["depth_upscaling"] = "depth_upscaling"
    """SOLAR's depth up-scaling."""


class IdentityConfig(GrowthOptions):
    """Identity blocks: copies of layers that begin by adding nothing, so that the model stays what it was."""

    kind: Literal["identity"] = "identity"
    """Identity-initialised blocks."""

    place: Literal["spread", "end"] = "spread"
    """Where new layers go. 'spread': evenly between the old ones. 'end': all behind the last one."""
