"""Advanced knowledge initialisation: a wider model whose added heads and neurons come from the layer above.

Columns grow as in `fpi`, of a layer's weights and of those of the layer above it alike. Rows are then those of the
layer itself as far as they reach, and copies of the upper layer's rows beyond:

    U_l[j, k] = W_l    [g_out(j), g_in(k)] / c_in(g_in(k))      j the first place that takes over g_out(j)
                W_{l+1}[g_out(j), g_in(k)] / c_in(g_in(k))      j a later one

for the four linear maps of a layer with their biases. The last layer has none above and is widened as by `fpi`; so are
embeddings, norms and the head. The function is not preserved; adjacent layers attend and compute alike, which is why
their rows fit in, and rows from two layers do not learn alike as copies do.

Shapes: `[D_out, D_in]` to `[D'_out, D'_in]` a weight.

Where we depart from the paper or it is silent:
- Copies of the last layer and of the embeddings still learn alike, but for `noise`, as in `fpi`.
- Where heads grow instead of becoming more, the added dimensions of each head are the upper layer's.
- With windows (ModernBERT) the layer above may see other tokens than the layer its rows come to.

Relations: `fpi` copies a layer's own rows, and preserves the function.

Example:
    >>> grown = grown_checkpoint(build_operator(AKIConfig()), GrowthInput(small, wider, torch.Generator()))

Citation: Chen, Yin, Shang, Jiang, Qin, Wang, Wang, Chen, Liu, Liu (2022), "bert2BERT: Towards Reusable Pretrained
Language Models", ACL, section 3.3.
"""

from __future__ import annotations

import torch

from corpusmith.growth.axes import axes_of
from corpusmith.growth.base import GrowthInput, GrowthOperator
from corpusmith.growth.config import AKIConfig
from corpusmith.growth.copies import copies, widen
from corpusmith.growth.shapes import check_larger
from corpusmith.growth.weights import layer_of, model_of, weights_of
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead


class AdvancedKnowledge(GrowthOperator):
    """Advanced knowledge initialisation; see the module's text."""

    keeps_depth = True

    def __init__(self, config: AKIConfig) -> None:
        self.config = config

    def check(self, source: EncoderConfig, target: EncoderConfig) -> None:
        """Wider, and as deep."""
        check_larger("aki", source, target, deeper=False)

    def grow(self, given: GrowthInput) -> tuple[Encoder, MaskedLanguageHead | None]:
        """Rows of each layer, and of the one above it."""
        source, noise, generator = given.source.encoder.config, self.config.noise, given.generator
        maps = copies(source, given.target, generator)
        weights = weights_of(given.source.encoder, given.source.head)
        grown = {}
        for name, weight in weights.items():
            axes, (layer, rest) = axes_of(name, source), layer_of(name)
            grown[name] = widen(weight, axes, maps, noise, generator)
            if layer is None or layer == source.layers - 1 or "norm" in rest:
                continue
            above = widen(weights[f"encoder.layers.{layer + 1}.{rest}"], axes, maps, noise, generator)
            later = torch.cat([maps[axis].turn > 0 for axis in axes.rows if axis is not None]).to(above.device)
            grown[name][later] = above[later]
        return model_of(given.target, grown)
