"""The masked-language head: hidden states of masked tokens to logits over the vocabulary."""

from __future__ import annotations

import torch
from torch import nn

from corpusmith.model.config import EncoderConfig
from corpusmith.model.layers import Norm, activate, initialise
from corpusmith.model.linear import Linear, linear


class MaskedLanguageHead(nn.Module):
    """`norm(act(dense(h))) E^T + b` with the encoder's own token embedding E (Devlin et al., 2019, and its code).

    BERT, RoBERTa and ModernBERT differ only in the activation and in which maps have a bias; the config says it.

    Args:
        config: the encoder's.
        generator: source of the fresh weights; seed 0 where none is given.
        input_size: width of the hidden states, where they are not as wide as the token embedding.
    """

    def __init__(
        self, config: EncoderConfig, generator: torch.Generator | None = None, input_size: int | None = None
    ) -> None:
        super().__init__()
        self.activation = config.head_activation
        self.dense = Linear(input_size or config.hidden_size, config.hidden_size, bias=config.head_bias)
        self.norm = Norm(config)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary_size)) if config.decoder_bias else None
        if not self.dense.weight.is_meta:
            initialise(self, config, generator or torch.Generator().manual_seed(0))

    def forward(self, hidden: torch.Tensor, embedding_weight: torch.Tensor) -> torch.Tensor:
        """`[M, D]` and the token embedding `[V, D]` to logits `[M, V]`, in the dtype of `hidden`."""
        features = self.norm(activate(self.activation, self.dense(hidden)))
        return linear(features, embedding_weight, self.bias)
