"""A choice of layers: some of a model's layers, as the start of a smaller one.

Which of L layers the k that stay are:

    spread    round(i (L - 1) / (k - 1)), i = 0 ... k - 1: evenly, the first and the last among them; of 12 layers
              0, 2, 4, 7, 9, 11, those of DistilBERT
    first     0 ... k - 1; the best of these choices in most experiments of Sajjad et al., without distillation
    last      L - k ... L - 1
    ends      the first ceil(k / 2) and the last floor(k / 2)

What comes out is a start and no model to use: it is meant to learn from the whole one (`pretrained_distillation`,
`self_attention_distillation`), or to be trained on.

Where we depart from the papers or they are silent:
- Where norms stand first, a higher layer that becomes the lowest loses the norm before its attention (`depth.py`).

Relations: `slice_width` makes a model narrower.

Citation: Sajjad, Dalvi, Durrani, Nakov (2023), "On the Effect of Dropping Layers of Pre-trained Transformer Models",
section 3 (top, bottom, symmetric and alternate dropping); Sanh, Debut, Chaumond, Wolf (2019), "DistilBERT", section 3.
"""

from __future__ import annotations

from corpusmith.errors import ModelError
from corpusmith.growth.depth import LayerCopies
from corpusmith.growth.options.smaller import ChooseLayersConfig


class ChooseLayers(LayerCopies):
    """A choice of layers; see the module's text."""

    def __init__(self, config: ChooseLayersConfig) -> None:
        self.config = config

    def numbers(self, source: int, target: int) -> list[int]:
        """See the base class."""
        if not 1 <= target < source:
            raise ModelError(f"a choice of {source} layers has fewer of them, and {target} are wanted.")
        match self.config.which:
            case "first":
                return list(range(target))
            case "last":
                return list(range(source - target, source))
            case "ends":
                return [*range((target + 1) // 2), *range(source - target // 2, source)]
            case "spread":
                return [round(place * (source - 1) / max(1, target - 1)) for place in range(target)]
