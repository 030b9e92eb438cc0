"""Units of a model, and every place where each of them stands, so that a unit can be dropped, or units put in another
order, everywhere at once.

A unit (a dimension of the states, a neuron) appears in several weights, on one axis of each. The spaces of units are

    hidden              D   dimensions of the states, of the embeddings and of the head: one space for the whole model
    layers.i.queries    D   what queries and keys are made of, head after head
    layers.i.values     D   what values are made of, head after head
    layers.i.neurons    I   the feed-forward part's

Which of them an axis ranges over follows from what it stands for (`axes.py`). Along some axes several are laid end to
end: `qkv` has queries, queries again (the keys) and values in one matrix, a gated feed-forward part both its halves. An
axis of words or positions has None.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from corpusmith.growth.axes import Axis, axes_of
from corpusmith.growth.weights import Weights, empty_model, layer_of, weights_of
from corpusmith.model.config import EncoderConfig

HIDDEN = "hidden"

Along = tuple[str | None, ...]
"""The spaces along an axis."""
Spaces = dict[str, tuple[Along, ...]]
"""For each weight by name, the spaces along its axes."""

IN_LAYER = {"query": "queries", "key": "queries", "value": "values", "inner": "neurons"}
"""The space of a layer that each kind of vector belongs to; the stream is `hidden`."""


def spaces_of(config: EncoderConfig) -> Spaces:
    """The spaces along the axes of all weights that an encoder and a head of this shape have."""
    found: Spaces = {}
    for name in weights_of(*empty_model(config, with_head=True)):
        axes, (layer, _) = axes_of(name, config), layer_of(name)
        rows = tuple(_space(axis, layer) for axis in axes.rows)
        found[name] = (rows,) if axes.columns is None else (rows, (_space(axes.columns, layer),))
    return found


def _space(axis: Axis | None, layer: int | None) -> str | None:
    if axis is None:
        return None
    kind = axis.partition("_")[2]
    return HIDDEN if kind == "stream" else f"layers.{layer}.{IN_LAYER[kind]}"


def select(weights: Mapping[str, torch.Tensor], spaces: Spaces, chosen: Mapping[str, torch.Tensor]) -> Weights:
    """The weights with the units of each space as `chosen` has them, by number and in its order; all units of the
    spaces that it does not name."""
    return {name: _selected(weight, spaces[name], chosen) for name, weight in weights.items()}


def _selected(weight: torch.Tensor, spaces: tuple[Along, ...], chosen: Mapping[str, torch.Tensor]) -> torch.Tensor:
    for number, along in enumerate(spaces):
        if not any(space in chosen for space in along):
            continue
        size = weight.shape[number] // len(along)
        every = torch.arange(size, device=weight.device)
        kept = [
            (every if space is None else chosen.get(space, every)).to(weight.device) + size * part
            for part, space in enumerate(along)
        ]
        weight = weight.index_select(number, torch.cat(kept))
    return weight


def unit_sums(scores: Mapping[str, torch.Tensor], spaces: Spaces) -> Weights:
    """For each space, the scores of all weights that belong to a unit, summed: float32 `[units]`."""
    sums: Weights = {}
    for name, score in scores.items():
        for number, along in enumerate(spaces[name]):
            by_unit = score.float().movedim(number, 0).reshape(score.shape[number], -1).sum(dim=1)
            for space, part in zip(along, by_unit.chunk(len(along)), strict=True):
                if space is not None:
                    sums[space] = sums[space] + part if space in sums else part
    return sums
