"""Interleaving: each layer repeated in place.

    layer i of the grown model = layer floor(i L / L') of the source,      i = 0 ... L' - 1

so that copies of a layer follow each other, and what a layer reads is near to what it has always read. The grown model
does not compute what the source computed. Any number of layers can be made: where it is no multiple, copies are spread
evenly.

Relations: `stack` repeats the stack as a whole, and learnt faster in the comparison cited; `identity` makes the copies
add nothing at first.

Citation: Du, Luo, Qiu, Huang, Shen, Cheng, Guo, Fu (2024), "Stacking Your Transformers: A Closer Look at Model Growth
for Efficient LLM Pre-Training", NeurIPS, appendix H.2 ("interpolation"); Chang, Meng, Haber, Tung, Begert (2018),
"Multi-level Residual Networks from Dynamical Systems View", ICLR, for residual networks of images.
"""

from __future__ import annotations

from corpusmith.errors import ModelError
from corpusmith.growth.depth import LayerCopies
from corpusmith.growth.options.depth import InterleaveConfig


class Interleave(LayerCopies):
    """Interleaving; see the module's text."""

    def __init__(self, config: InterleaveConfig) -> None:
        self.config = config

    def numbers(self, source: int, target: int) -> list[int]:
        """See the base class."""
        if target <= source:
            raise ModelError(f"interleaving makes more layers than {source}, and {target} are wanted.")
        return [place * source // target for place in range(target)]
