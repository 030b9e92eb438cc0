"""LiGO: linear maps that make a larger model of a smaller one, learned with the training loss.

All weights of the larger model are linear in those of the smaller. Of that vast map a Kronecker product is learned,
first in width, with maps that all layers share, then in depth, with weights for every kind of map:

    W_l = sum_i w_li  B_out V_i A_in^T,       V_i the weight of layer i of the source, [D_out, D_in]

B of the vectors that a weight makes and A of those it takes in belong to the stream, the queries, keys, values and
inner activations (`growth/axes.py`); embeddings are `E B^T`, norms and biases `B b`. The product is never written out.

Start: w stacks the source's layers, B and A copy as `fpi` does, so that learning begins at the function preserved where
`fpi` preserves it and the number of layers stays.

Shapes: B, A `[D', D]`; w `[L', L]`, one for each of queries, keys, values and every other map, norm and bias.

Where we depart from the paper or it is silent:
- It ties A to B. They are two here: only so is copying and sharing, where we start, one of the maps there are.
- It learns for 100 steps; optimiser and rate are ours (`growth/learn.py`), and so is the start.
- Copies would learn alike, in B as in a model. So A begins with random numbers that sum to 0 over the copies of a
  dimension (`noise`), which leaves the function as it is.
- The head's norm goes by A, so that logits begin as they were. The vocabulary's bias stays as it is.

Relations: `mango` also mixes kinds of weights; `fpi` and stacking are single points among these maps.

Example:
    >>> given = GrowthInput(small, larger, torch.Generator().manual_seed(0), loss)
    >>> grown = grown_checkpoint(build_operator(LiGOConfig(steps=100)), given)

Citation: Wang, Panda, Hennigen, Greengard, Karlinsky, Feris, Cox, Wang, Kim (2023), "Learning to Grow Pretrained Models
for Efficient Transformer Training", ICLR, section 3.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from corpusmith.growth.axes import Axes, axes_of
from corpusmith.growth.config import LiGOConfig
from corpusmith.growth.copies import Copies, copies
from corpusmith.growth.learn import LearnedOperator, Maker, mapped
from corpusmith.growth.shapes import stacked_layers
from corpusmith.growth.weights import Weights, layer_names, layer_stacks, outside_layers
from corpusmith.model.config import EncoderConfig


class LiGO(LearnedOperator):
    """The learned linear growth operator; see the module's text."""

    kind = "ligo"

    def __init__(self, config: LiGOConfig) -> None:
        super().__init__(config)
        self.noise = config.noise

    def maker(
        self, weights: Weights, source: EncoderConfig, target: EncoderConfig, generator: torch.Generator
    ) -> Maker:
        """Maps that copy and stack."""
        return LinearMaps(weights, source, target, self.noise, generator)


class LinearMaps(Maker):
    """Width and depth as linear maps.

    Attributes:
        width: `[new, old]` for each axis.
        depth: `[parts, L', L]` for each weight of a layer, by its name with `_` for dots.
    """

    def __init__(
        self,
        weights: Weights,
        source: EncoderConfig,
        target: EncoderConfig,
        noise: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.source = source
        self.outside = outside_layers(weights)
        self.stacks = layer_stacks(weights, source.layers, layer_names(target))
        maps = copies(source, target, generator)
        self.width = nn.ParameterDict(
            {axis: starting_map(axis, grown, noise, generator) for axis, grown in maps.items()}
        )
        stacked = F.one_hot(torch.tensor(stacked_layers(source, target)), source.layers).float()
        self.depth = nn.ParameterDict(
            {name.replace(".", "_"): stacked.repeat(len(self._axes(name).rows), 1, 1) for name in self.stacks}
        )

    def forward(self) -> Weights:
        """All weights of the larger model."""
        made = {
            name: torch.cat(mapped(weight, axes_of(name, self.source), self.width))
            for name, weight in self.outside.items()
        }
        for name, stack in self.stacks.items():
            parts = mapped(stack, self._axes(name), self.width)
            deep = [
                torch.tensordot(depth, part, dims=1)
                for depth, part in zip(self.depth[name.replace(".", "_")], parts, strict=True)
            ]
            layers = torch.cat(deep, dim=1)
            made |= {f"encoder.layers.{number}.{name}": layer for number, layer in enumerate(layers)}
        return made

    def _axes(self, name: str) -> Axes:
        return axes_of(f"encoder.layers.0.{name}", self.source)


def starting_map(axis: str, grown: Copies, noise: float, generator: torch.Generator) -> nn.Parameter:
    """`[new, old]`: the copies as a linear map, and where they are taken in, random numbers that sum to 0 over the
    copies of a place, as large as a share of `noise` of the map's rows."""
    start = grown.matrix
    if noise and axis.startswith("from_"):
        drawn = grown.balanced(torch.randn(grown.old, len(grown.source), generator=generator)) * grown.scale
        start = start + noise / math.sqrt(grown.old) * drawn.T
    return nn.Parameter(start)
