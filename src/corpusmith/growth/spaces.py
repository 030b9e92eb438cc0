"""What the axes of an encoder's weights range over, so that a unit can be dropped, or units put in another order,
everywhere at once.

A unit (a dimension of the states, a neuron) appears in several weights, on one axis of each. The spaces of units are

    hidden              D   dimensions of the states, of the embeddings and of the head: one space for the whole model
    layers.i.queries    D   what queries and keys are made of, head after head
    layers.i.values     D   what values are made of, head after head
    layers.i.neurons    I   the feed-forward part's

An axis is given as the spaces laid end to end along it: `qkv` has queries, queries again (the keys) and values in one
matrix, a gated feed-forward part both its halves. No space along an axis (words, positions) is an empty tuple.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead

HIDDEN = "hidden"
HEAD = "head."
"""What stands before the names of the masked-language head's weights."""

Axis = tuple[str, ...]
Axes = dict[str, tuple[Axis, ...]]
Weights = dict[str, torch.Tensor]


def weights_of(checkpoint: Checkpoint) -> Weights:
    """The weights of a checkpoint's encoder and, behind `HEAD`, of its masked-language head where it has one."""
    weights = {name: tensor.detach() for name, tensor in checkpoint.encoder.state_dict().items()}
    if checkpoint.head is not None:
        weights |= {HEAD + name: tensor.detach() for name, tensor in checkpoint.head.state_dict().items()}
    return weights


def parts_of(weights: Mapping[str, torch.Tensor]) -> tuple[Weights, Weights]:
    """The encoder's weights and the head's, which are none where there is no head."""
    head = {name.removeprefix(HEAD): tensor for name, tensor in weights.items() if name.startswith(HEAD)}
    return {name: tensor for name, tensor in weights.items() if not name.startswith(HEAD)}, head


def axes_of(config: EncoderConfig) -> Axes:
    """For each weight that an encoder and a head of this shape have, the spaces along its axes."""
    with torch.device("meta"):
        encoder, head = Encoder(config).state_dict(), MaskedLanguageHead(config).state_dict()
    axes = {name: _encoder_axes(name, config.gated) for name in encoder}
    return axes | {HEAD + name: _head_axes(name) for name in head}


def _encoder_axes(name: str, gated: bool) -> tuple[Axis, ...]:
    module, _, kind = name.rpartition(".")
    layer = ".".join(name.split(".")[:2])
    queries, values, neurons = f"{layer}.queries", f"{layer}.values", f"{layer}.neurons"
    if module in ("embeddings.tokens", "embeddings.positions", "embeddings.types"):
        return (), (HIDDEN,)
    if module.endswith("norm"):
        return ((HIDDEN,),)
    written, read = {
        "attention.qkv": ((queries, queries, values), (HIDDEN,)),
        "attention.output": ((HIDDEN,), (values,)),
        "mlp.up": ((neurons,) * (2 if gated else 1), (HIDDEN,)),
        "mlp.down": ((HIDDEN,), (neurons,)),
    }[module.removeprefix(f"{layer}.")]
    return (written, read) if kind == "weight" else (written,)


def _head_axes(name: str) -> tuple[Axis, ...]:
    """The head's features are compared with the token embedding, so they are dimensions of the states."""
    if name == "bias":
        return ((),)
    return ((HIDDEN,), (HIDDEN,)) if name == "dense.weight" else ((HIDDEN,),)


def select(weights: Mapping[str, torch.Tensor], axes: Axes, chosen: Mapping[str, torch.Tensor]) -> Weights:
    """The weights with the units of each space as `chosen` has them, by number and in its order; all units of the
    spaces that it does not name."""
    return {name: _selected(tensor, axes[name], chosen) for name, tensor in weights.items()}


def _selected(tensor: torch.Tensor, axes: tuple[Axis, ...], chosen: Mapping[str, torch.Tensor]) -> torch.Tensor:
    for number, spaces in enumerate(axes):
        if not any(space in chosen for space in spaces):
            continue
        size = tensor.shape[number] // len(spaces)
        every = torch.arange(size, device=tensor.device)
        kept = [chosen.get(space, every).to(tensor.device) + size * i for i, space in enumerate(spaces)]
        tensor = tensor.index_select(number, torch.cat(kept))
    return tensor


def unit_sums(scores: Mapping[str, torch.Tensor], axes: Axes) -> Weights:
    """For each space, the scores of all weights that belong to a unit, summed: float32 `[units]`."""
    sums: Weights = {}
    for name, score in scores.items():
        for number, spaces in enumerate(axes[name]):
            if not spaces:
                continue
            along = score.float().movedim(number, 0).reshape(score.shape[number], -1).sum(dim=1)
            for space, part in zip(spaces, along.chunk(len(spaces)), strict=True):
                sums[space] = sums[space] + part if space in sums else part
    return sums
