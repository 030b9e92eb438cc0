"""The weights of a model by name, layer by layer, and a model made of weights.

Names are those of the encoder's and the head's own, `encoder.` or `head.` before them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead

Weights = dict[str, torch.Tensor]


def parameters_of(encoder: Encoder, head: MaskedLanguageHead | None) -> dict[str, nn.Parameter]:
    """All parameters of a model."""
    parameters = {f"encoder.{name}": parameter for name, parameter in encoder.named_parameters()}
    if head is not None:
        parameters |= {f"head.{name}": parameter for name, parameter in head.named_parameters()}
    return parameters


def weights_of(encoder: Encoder, head: MaskedLanguageHead | None) -> Weights:
    """All weights of a model, without gradients; shared with it."""
    return {name: parameter.detach() for name, parameter in parameters_of(encoder, head).items()}


def model_of(config: EncoderConfig, weights: Mapping[str, torch.Tensor]) -> tuple[Encoder, MaskedLanguageHead | None]:
    """A model of this shape with float32 copies of these weights, and a head where there are any for one; what has no
    place in it is left out."""
    encoder, head = empty_model(config, with_head=any(name.startswith("head.") for name in weights))
    for prefix, module in (("encoder", encoder), ("head", head)):
        if module is not None:
            found = {name: _copy(weights[f"{prefix}.{name}"]) for name in module.state_dict()}
            module.load_state_dict(found, assign=True)
            module.requires_grad_(True)
    return encoder, head


def empty_model(config: EncoderConfig, with_head: bool) -> tuple[Encoder, MaskedLanguageHead | None]:
    """A model of this shape that takes no memory yet."""
    with torch.device("meta"):
        return Encoder(config), MaskedLanguageHead(config) if with_head else None


def layer_of(name: str) -> tuple[int | None, str]:
    """The number of a weight's layer and its name there; None and the whole name where it is in no layer."""
    found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)
    return (int(found[1]), found[2]) if found else (None, name)


def outside_layers(weights: Mapping[str, torch.Tensor]) -> Weights:
    """The weights that are in no layer."""
    return {name: weight for name, weight in weights.items() if layer_of(name)[0] is None}


def layer_names(config: EncoderConfig) -> list[str]:
    """The names that the weights of a layer have there, in an encoder of this shape."""
    found = (layer_of(name) for name in weights_of(*empty_model(config, with_head=False)))
    return list(dict.fromkeys(rest for layer, rest in found if layer is not None))


def layer_weight(weights: Mapping[str, torch.Tensor], layer: int, name: str) -> torch.Tensor:
    """The weight of this name in this layer. Where norms stand first, the first layer's attention has none of its own:
    it is the embeddings' norm, which stands just there."""
    found = weights.get(f"encoder.layers.{layer}.{name}")
    return weights[f"encoder.embeddings.{name.removeprefix('attention_')}"] if found is None else found


def layer_stacks(weights: Mapping[str, torch.Tensor], layers: int, names: list[str]) -> Weights:
    """Each of these weights of a layer, by its name there, for all layers: `[layers, ...]`."""
    return {name: torch.stack([layer_weight(weights, number, name) for number in range(layers)]) for name in names}


def _copy(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().to(torch.float32, copy=True).contiguous()
