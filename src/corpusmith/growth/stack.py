"""Stacking: the whole stack of layers, several times over.

    layer i of the grown model = layer (i mod L) of the source,      i = 0 ... g L - 1

for a growth factor g = 2, 3, ... The grown model does not compute what the source computed, and its loss jumps; but it
learns faster than one from scratch, the cost of the source counted in, and in the comparison of Du et al. faster than
with any other operator, those that preserve the function among them.

`guidance` says by how much to grow and when, as that paper found.

Where we depart from the paper or it is silent:
- Encoders instead of decoders. Embeddings and head are carried over.
- StackBERT doubles a few times in a row, with training between; that is this operator, used more than once. Du et al.
  found one step better (section 5.1).
- The fit of `guidance` is for language models of 0.4 to 3 billion parameters and budgets of 20 to 110 billion tokens
  (their figure 8). Its extrapolation to the sizes trained here would ask for more than the whole budget. Outside of
  the fitted range we say how large a share of the FLOPs it spends on the small model in the middle of it instead.

Example:
    >>> guidance(parameters=1.1e9, flops=4e20).factor
    4

Relations: `interleave` puts copies next to each other; `depth_upscaling` leaves out what would meet at the seam;
`identity` adds layers that do nothing yet.

Citation: Du, Luo, Qiu, Huang, Shen, Cheng, Guo, Fu (2024), "Stacking Your Transformers: A Closer Look at Model Growth
for Efficient LLM Pre-Training", NeurIPS, sections 3.2 and 4.2, equation 2, figures 8 to 10; Gong, He, Li, Qin, Wang,
Liu (2019), "Efficient Training of BERT by Progressively Stacking", ICML.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from corpusmith.errors import ModelError
from corpusmith.growth.depth import LayerCopies
from corpusmith.growth.options.depth import StackConfig

FACTOR = 4
"""Growth factor that Du et al. recommend (section 4.2); the best one lay between 2 and 4 (figure 10)."""

FITTED_PARAMETERS = (4.1e8, 3e9)
FITTED_TOKENS = (2e10, 1.1e11)
"""Parameters of the grown model, and tokens that its budget would buy without growth, between which they fitted."""

MIDDLE_SHARE = 0.05
"""Share of the FLOPs that equation 2 spends on the small model in the middle of that range: 1.1 billion parameters and
4.5e20 FLOPs."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """When to grow, and by how much.

    Attributes:
        factor: growth factor g; the small model has that many times fewer layers, but not fewer than two (one-layer
            models were worse than none, figure 10).
        tokens: tokens d that the small model is trained on.
        share: the share of all FLOPs that this takes; the grown model gets the others.
        fitted: whether equation 2 says so; otherwise it lies outside of the range fitted and `MIDDLE_SHARE` does.
    """

    factor: int
    tokens: float
    share: float
    fitted: bool


def guidance(parameters: float, flops: float) -> Guidance:
    """What G_stack's authors would do with a budget: `log10 d = 0.88 log10 N + 163.27 / log10 C - 5.74`.

    Args:
        parameters: N, those of the grown model without its embeddings.
        flops: C, floating-point operations to be spent in all, 6 for each parameter and token.

    Raises:
        ValueError: one of them is not above 0.
    """
    if parameters <= 0 or flops <= 0:
        raise ValueError(f"parameters and flops must be above 0: {parameters}, {flops}")
    small = parameters / FACTOR
    if not (
        FITTED_PARAMETERS[0] <= parameters <= FITTED_PARAMETERS[1]
        and FITTED_TOKENS[0] <= flops / (6 * parameters) <= FITTED_TOKENS[1]
    ):
        return Guidance(FACTOR, MIDDLE_SHARE * flops / (6 * small), MIDDLE_SHARE, fitted=False)
    tokens = 10 ** (0.88 * math.log10(parameters) + 163.27 / math.log10(flops) - 5.74)
    return Guidance(FACTOR, tokens, 6 * small * tokens / flops, fitted=True)


class Stack(LayerCopies):
    """Stacking; see the module's text."""

    def __init__(self, config: StackConfig) -> None:
        self.config = config

    def numbers(self, source: int, target: int) -> list[int]:
        """See the base class."""
        if target <= source or target % source:
            raise ModelError(
                f"a stack of {source} layers grows to {2 * source}, {3 * source} or another multiple of {source}, and "
                f"{target} are wanted; ask for a multiple, or take interleave."
            )
        return [place % source for place in range(target)]
