"""Template mixing: new parts of a larger model are new mixtures of what the source's layers hold.

The source's layers are templates T_1 ... T_L, one set for each of a layer's linear maps. A wider map is a grid of
blocks, one for each copy of its rows and each of its columns (`growth/copies.py`); every block is filled from a mixture
of its own:

    block_l^{ab} = sum_i alpha_i^{l,ab} T_i,        alpha^{l,ab} = cos(t) e_{h(l)} + sin(t) u^{l,ab}

with h(l) the layer that l begins as, e its unit vector, u drawn at random of length 1 and orthogonal to e, those of one
map orthogonal to each other as far as there are layers, and sin(t) the option `novelty`. The first block is the old
weight itself (t = 0), except in an added layer, which is all new mixtures. Columns are divided by their copies, so that
at `novelty` 0 this is `fpi`. The function is not preserved, and the nearer the smaller `novelty`.

Shapes: templates `[L, D_out, D_in]`, coefficients `[blocks, L]`, for each map of each layer.

Where we depart from the paper or it is silent:
- It trains the small model with templates, several to a layer, and mixes those. A model that comes from elsewhere was
  not trained so; its layers of one kind are the nearest there is, and the source's own coefficients are then e.
- Its new coefficients are orthogonal to the old ones, or near; `novelty` goes from one to the other, and we begin near,
  since layers were not trained to be mixed. Coefficients are drawn, not learned: `ligo` and `mango` learn theirs.
- Blocks are kept and trained as weights, not as coefficients. Norms and biases come from h(l), and embeddings and head
  are widened as by `fpi`: there is one of each, and nothing to mix.
- The paper widens. Layers beyond the source's stack are filled in the same way.

Relations: `aki` takes new rows from one other layer, `ligo` learns mixtures of layers with the training loss.

Example:
    >>> given = GrowthInput(small, larger, torch.Generator().manual_seed(0))
    >>> grown = grown_checkpoint(build_operator(MixtureConfig(novelty=0.3)), given)

Citation: Pham, Teterwak, Nelson, Plummer (2024), "MixtureGrowth: Growing Neural Networks by Recombining Learned
Parameters", WACV, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from corpusmith.errors import ModelError
from corpusmith.growth.axes import Axes, Axis, axes_of
from corpusmith.growth.base import GrowthInput, GrowthOperator
from corpusmith.growth.config import MixtureConfig
from corpusmith.growth.copies import Copies, copies, widen
from corpusmith.growth.shapes import check_larger, stacked_layers
from corpusmith.growth.weights import layer_names, layer_stacks, model_of, outside_layers, weights_of
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead


class Mixture(GrowthOperator):
    """Template mixing; see the module's text."""

    def __init__(self, config: MixtureConfig) -> None:
        self.config = config

    def check(self, source: EncoderConfig, target: EncoderConfig) -> None:
        """Wider or deeper, of at least two layers."""
        check_larger("mixture", source, target, deeper=True)
        if source.layers < 2:
            raise ModelError("mixture mixes the layers of the source, and the source has one alone; use fpi")

    def grow(self, given: GrowthInput) -> tuple[Encoder, MaskedLanguageHead | None]:
        """Mixtures for the linear maps of all layers, copies of everything else."""
        source, target = given.source.encoder.config, given.target
        maps = copies(source, target, given.generator)
        weights = weights_of(given.source.encoder, given.source.head)
        grown = {name: widen(weight, axes_of(name, source), maps) for name, weight in outside_layers(weights).items()}
        homes = stacked_layers(source, target)
        for rest, templates in layer_stacks(weights, source.layers, layer_names(target)).items():
            axes = axes_of(f"encoder.layers.0.{rest}", source)
            for layer, home in enumerate(homes):
                grown[f"encoder.layers.{layer}.{rest}"] = (
                    widen(templates[home], axes, maps)
                    if axes.columns is None
                    else self._blocks(templates, home, home in homes[:layer], axes, maps, given.generator)
                )
        return model_of(target, grown)

    def _blocks(
        self,
        templates: torch.Tensor,
        home: int,
        is_added: bool,
        axes: Axes,
        maps: Mapping[Axis, Copies],
        generator: torch.Generator,
    ) -> torch.Tensor:
        """One linear map of one layer, block by block."""
        assert axes.columns is not None
        rows = torch.cat([maps[axis].turn for axis in axes.rows if axis is not None])
        columns = maps[axes.columns].turn
        blocks = [(row, column) for row in range(int(rows.max()) + 1) for column in range(int(columns.max()) + 1)]
        new = blocks if is_added else blocks[1:]
        mixtures = self.coefficients(home, len(new), len(templates), generator).to(templates.device)
        grown = widen(templates[home], axes, maps)
        for (row, column), coefficients in zip(new, mixtures, strict=True):
            mixed = widen(torch.tensordot(coefficients, templates, dims=1), axes, maps)
            inside = ((rows == row)[:, None] & (columns == column)).to(templates.device)
            grown = torch.where(inside, mixed, grown)
        return grown

    def coefficients(self, home: int, count: int, layers: int, generator: torch.Generator) -> torch.Tensor:
        """`[count, layers]`: mixtures of length 1, each at the same angle to the layer `home`."""
        sine = self.config.novelty
        unit = torch.zeros(layers)
        unit[home] = 1.0
        return math.sqrt(1 - sine**2) * unit + sine * _directions(home, count, layers, generator)


def _directions(home: int, count: int, layers: int, generator: torch.Generator) -> torch.Tensor:
    """`[count, layers]`: random vectors of length 1 without the place `home`, orthogonal to each other in groups of
    `layers - 1`, which is all the room there is."""
    groups = []
    for _ in range(-(-count // (layers - 1))):
        drawn = torch.randn(layers, layers - 1, generator=generator)
        drawn[home] = 0.0
        groups.append(torch.linalg.qr(drawn).Q.T)
    return torch.cat(groups)[:count] if groups else torch.zeros(0, layers)
