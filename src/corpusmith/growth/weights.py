"""From weights by name to modules that own them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead


def encoder_of(config: EncoderConfig, weights: Mapping[str, torch.Tensor]) -> Encoder:
    """An encoder of this shape with float32 copies of these weights, which must be all of its own."""
    with torch.device("meta"):
        encoder = Encoder(config)
    encoder.load_state_dict(_copies(weights), assign=True)
    encoder.requires_grad_(True)
    return encoder


def head_of(config: EncoderConfig, weights: Mapping[str, torch.Tensor]) -> MaskedLanguageHead:
    """The same for a masked-language head."""
    with torch.device("meta"):
        head = MaskedLanguageHead(config)
    head.load_state_dict(_copies(weights), assign=True)
    head.requires_grad_(True)
    return head


def _copies(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to(torch.float32, copy=True).contiguous() for name, tensor in weights.items()}
