"""Depth up-scaling: two copies of the stack, without the layers that would meet at the seam.

The last m layers of the first copy and the first m of the second are left out,

    layers 0 ... L - m - 1,  then  m ... L - 1,        L' = 2 (L - m) in all,

since the last layer's states, put into the first one, are what is least like anything that it has ever read. SOLAR
makes 48 layers of 32, with m = 8. Here m follows from the number of layers wanted, which must be even.

Relations: `stack` with a factor of 2 is m = 0. Neither computes what the source computed.

Citation: Kim, Park, Kim and others (2023), "SOLAR 10.7B: Scaling Large Language Models with Simple yet Effective Depth
Up-Scaling", section 2.
"""

from __future__ import annotations

from corpusmith.errors import ModelError
from corpusmith.growth.depth import LayerCopies
from corpusmith.growth.options.depth import DepthUpscalingConfig


class DepthUpscaling(LayerCopies):
    """Depth up-scaling; see the module's text."""

    def __init__(self, config: DepthUpscalingConfig) -> None:
        self.config = config

    def numbers(self, source: int, target: int) -> list[int]:
        """See the base class."""
        if target % 2 or not source < target < 2 * source:
            raise ModelError(
                f"depth up-scaling of {source} layers makes an even number between {source} and {2 * source}, and "
                f"{target} are wanted."
            )
        left_out = source - target // 2
        return [*range(source - left_out), *range(left_out, source)]
