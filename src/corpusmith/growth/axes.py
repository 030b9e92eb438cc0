"""The weights of a model by name, and what the axes of each stand for.

Growth in width treats a weight by what its axes index, not by its name. Five kinds of vectors go through an encoder:
the `stream` (hidden states, and what is added to them), queries, keys, values (a head's output is a mean of values) and
the `inner` activations of the feed-forward part. An axis of a weight makes one of them (`to_...`) or takes one in
(`from_...`). The features of the masked-language head count as a stream: they are multiplied with the token embedding,
whose columns make the stream. Its norm is the last thing that touches them, and counts as what takes them in: it is
there that they can be weighed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead

Axis = Literal["to_stream", "from_stream", "to_query", "to_key", "to_value", "from_value", "to_inner", "from_inner"]
Weights = dict[str, torch.Tensor]
"""Weights by name, `encoder.` or `head.` before it."""


@dataclass(frozen=True, slots=True)
class Axes:
    """`rows` are what the equal parts of the first axis stand for, one after the other, and `columns` the second axis;
    None is an axis that does not grow (the vocabulary, positions), or, in `columns`, one that is not there."""

    rows: tuple[Axis | None, ...]
    columns: Axis | None = None


_STREAM = Axes(("to_stream",))
_TABLE = Axes((None,), "to_stream")

_AXES = {
    "embeddings.tokens": _TABLE,
    "embeddings.positions": _TABLE,
    "embeddings.types": _TABLE,
    "embeddings.norm": _STREAM,
    "attention_norm": _STREAM,
    "attention.qkv": Axes(("to_query", "to_key", "to_value"), "from_stream"),
    "attention.output": Axes(("to_stream",), "from_value"),
    "mlp_norm": _STREAM,
    "mlp.up": Axes(("to_inner",), "from_stream"),
    "mlp.down": Axes(("to_stream",), "from_inner"),
    "final_norm": _STREAM,
    "head.dense": Axes(("to_stream",), "from_stream"),
    "head.norm": Axes(("from_stream",)),
    "head": Axes((None,)),
}
"""What the axes of each module's weight stand for; a bias has the rows of its weight."""


def axes_of(name: str, config: EncoderConfig) -> Axes:
    """The axes of the weight of this name."""
    module, _, kind = re.sub(r"^encoder\.(layers\.\d+\.)?", "", name).rpartition(".")
    axes = _AXES[module]
    rows = axes.rows * 2 if module == "mlp.up" and config.gated else axes.rows
    return Axes(rows, None if kind == "bias" else axes.columns)


def layer_of(name: str) -> tuple[int | None, str]:
    """The number of a weight's layer and its name there; None and the whole name where it is in no layer."""
    found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)
    return (int(found[1]), found[2]) if found else (None, name)


def weights_of(encoder: Encoder, head: MaskedLanguageHead | None) -> Weights:
    """All weights of a model, without gradients; shared with it."""
    return {
        f"{prefix}.{name}": weight.detach()
        for prefix, module in (("encoder", encoder), ("head", head))
        if module is not None
        for name, weight in module.state_dict().items()
    }


def layer_weight(weights: Weights, layer: int, name: str) -> torch.Tensor:
    """The weight of this name in this layer. Where norms stand first, the first layer's attention has none of its own:
    it is the embeddings' norm, which stands just there."""
    found = weights.get(f"encoder.layers.{layer}.{name}")
    return weights[f"encoder.embeddings.{name.removeprefix('attention_')}"] if found is None else found


def layer_names(config: EncoderConfig) -> list[str]:
    """The names that the weights of a layer have there, in an encoder of this shape."""
    found = (layer_of(name) for name in weights_of(*empty_model(config, with_head=False)))
    return list(dict.fromkeys(rest for layer, rest in found if layer is not None))


def layer_stacks(weights: Weights, layers: int, names: list[str]) -> Weights:
    """Each of these weights of a layer, by its name there, for all layers: `[layers, ...]`."""
    return {name: torch.stack([layer_weight(weights, number, name) for number in range(layers)]) for name in names}


def empty_model(config: EncoderConfig, with_head: bool) -> tuple[Encoder, MaskedLanguageHead | None]:
    """A model of this shape that takes no memory yet."""
    with torch.device("meta"):
        return Encoder(config), MaskedLanguageHead(config) if with_head else None


def model_of(config: EncoderConfig, weights: Mapping[str, torch.Tensor]) -> tuple[Encoder, MaskedLanguageHead | None]:
    """A model of this shape with these weights, which become its own; what has no place in it is left out."""
    encoder, head = empty_model(config, with_head=any(name.startswith("head.") for name in weights))
    for prefix, module in (("encoder", encoder), ("head", head)):
        if module is not None:
            found = {name: weights[f"{prefix}.{name}"].detach().contiguous() for name in module.state_dict()}
            module.load_state_dict(found, assign=True)
            module.requires_grad_(True)
    return encoder, head
