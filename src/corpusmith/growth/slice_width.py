"""A slice of the width: the most important dimensions, heads and neurons of a model, as the start of a narrower one.

Dimensions of the states are chosen once for the whole model, heads and neurons for each layer. A unit's importance is
the sum over all weights w that belong to it, on whichever axis (`spaces.py`), of

    magnitude    w^2 / sum of w^2 over the matrix, so that each matrix has one vote
    loss         sum over batches of (w dL/dw)^2, by how much the loss changes without w, to first order

A head's importance is that of all it is made of. Where heads are to be smaller too, each loses its least important
dimensions, those of queries and keys together and those of values for themselves; queries are then scaled by
sqrt(d'/d), d' of d dimensions being left, so that scores q . k / sqrt(d') stay what these dimensions have made of them.

What comes out is a start and no model to use: norms now see fewer dimensions, and nothing makes up for what is gone. It
is meant to learn from the whole model (`pretrained_distillation`, `self_attention_distillation`), or to be trained on.

Where we depart from the papers or they are silent:
- Molchanov et al. square the sum over a unit's weights, or sum their squares; we take the second. A unit's weights are
  all that it touches, so that dimensions of the states are measured too.
- Heads with rotary positions keep all their dimensions, each of which turns at a rate of its own.

Relations: `choose_layers` makes a model shallower.

Citation: Molchanov, Mallya, Tyree, Frosio, Kautz (2019), "Importance Estimation for Neural Network Pruning", CVPR,
section 3.1; Michel, Levy, Neubig (2019), "Are Sixteen Heads Really Better than One?", NeurIPS, for heads by the loss;
Han, Pool, Tran, Dally (2015), "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS, for
magnitude.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from corpusmith.errors import ModelError
from corpusmith.growth.base import GrowthInput, GrowthOperator
from corpusmith.growth.options.smaller import SliceWidthConfig
from corpusmith.growth.spaces import HIDDEN, select, spaces_of, unit_sums
from corpusmith.growth.weights import Weights, model_of, parameters_of, weights_of
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead

SLICED = ("hidden_size", "heads", "intermediate_size")
"""What is sliced."""


class SliceWidth(GrowthOperator):
    """A slice of the width; see the module's text."""

    keeps_depth = True

    def __init__(self, config: SliceWidthConfig) -> None:
        self.config = config
        self.steps = config.batches if config.by == "loss" else 0

    def reaches(self, source: EncoderConfig, wanted: EncoderConfig) -> EncoderConfig:
        """See the base class; what is to be larger is left to an operator that widens."""
        sizes = {name: min(getattr(source, name), getattr(wanted, name)) for name in SLICED}
        if sizes["hidden_size"] % sizes["heads"]:
            raise ModelError(
                f"a slice of {source.heads} heads in {source.hidden_size} dimensions would have {sizes['heads']} in "
                f"{sizes['hidden_size']}, which they do not divide evenly; choose other sizes."
            )
        return replace(source, **sizes)

    def check(self, source: EncoderConfig, target: EncoderConfig) -> None:
        """See the base class."""
        for name in (*SLICED, "head_size"):
            if getattr(target, name) > getattr(source, name):
                mend = "; ask for more heads" if name == "head_size" else ""
                raise ModelError(
                    f"a slice of the width is not wider than its source: {name} is {getattr(source, name)}, and "
                    f"{getattr(target, name)} is wanted{mend}."
                )
        taken_over = {"initializer_range": source.initializer_range} | {n: getattr(source, n) for n in SLICED}
        if replace(target, **taken_over) != source:
            raise ModelError(
                "a slice of the width changes hidden_size, heads and intermediate_size alone, and the shape wanted "
                "differs in more; choose_layers makes a model shallower."
            )
        if source.rotary and target.head_size != source.head_size:
            raise ModelError(
                f"heads with rotary positions keep all their {source.head_size} dimensions, and {target.head_size} are "
                f"wanted; ask for a head for every {source.head_size} of hidden_size."
            )

    def grow(self, given: GrowthInput) -> tuple[Encoder, MaskedLanguageHead | None]:
        """See the base class."""
        source, target = given.source.encoder.config, given.target
        spaces, weights = spaces_of(source), weights_of(given.source.encoder, given.source.head)
        sums = unit_sums(self._scores(given, weights), spaces)
        chosen = {HIDDEN: _best(sums[HIDDEN], target.hidden_size)}
        for layer in (f"layers.{number}" for number in range(source.layers)):
            chosen[f"{layer}.neurons"] = _best(sums[f"{layer}.neurons"], target.intermediate_size)
            queries, values = (sums[f"{layer}.{kind}"].view(source.heads, -1) for kind in ("queries", "values"))
            heads = _best(queries.sum(dim=1) + values.sum(dim=1), target.heads)
            chosen[f"{layer}.queries"] = _within(queries, heads, target.head_size)
            chosen[f"{layer}.values"] = _within(values, heads, target.head_size)
        sliced = select(weights, spaces, chosen)
        for name in sliced:
            if ".attention.qkv." in name and target.head_size != source.head_size:
                sliced[name][: target.hidden_size] *= (target.head_size / source.head_size) ** 0.5
        return model_of(target, sliced)

    def _scores(self, given: GrowthInput, weights: Weights) -> Weights:
        """For each weight that is looked at, how important it is."""
        if self.config.by == "magnitude":
            squares = {name: tensor.float().square() for name, tensor in weights.items() if tensor.ndim == 2}
            return {name: square / square.sum().clamp(min=1e-30) for name, square in squares.items()}
        if given.loss is None:
            raise ModelError("importance by loss needs an objective, and there is none; set by = 'magnitude'.")
        encoder = copy.deepcopy(given.source.encoder).requires_grad_(True)
        head = None if given.source.head is None else copy.deepcopy(given.source.head).requires_grad_(True)
        own = parameters_of(encoder, head)
        scores = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        for batch in range(self.config.batches):
            gradients = torch.autograd.grad(given.loss(encoder, head, batch), list(own.values()), allow_unused=True)
            for (name, tensor), gradient in zip(own.items(), gradients, strict=True):
                if gradient is not None:
                    scores[name] += (tensor.detach() * gradient).square()
        return scores


def _best(importance: torch.Tensor, number: int) -> torch.Tensor:
    """The numbers of so many units, the most important ones, ascending."""
    return importance.topk(number).indices.sort().values


def _within(importance: torch.Tensor, heads: torch.Tensor, size: int) -> torch.Tensor:
    """The numbers of the `size` most important dimensions of each of these heads, from `importance[H, d]`."""
    kept = importance[heads].topk(size, dim=1).indices.sort(dim=1).values
    return (heads[:, None] * importance.shape[1] + kept).flatten()
