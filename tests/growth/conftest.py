"""Random tiny models with heads, and the masked-language loss of the sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from corpusmith.growth.base import StepLoss
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.objective.config import MaskedLanguageConfig
from corpusmith.objective.masked_language import named_tokens_loss
from corpusmith.objective.registry import build_objective


@pytest.fixture
def model(tiny_tokenizer: Any) -> Callable[[EncoderConfig], Checkpoint]:
    """Makes a model of a shape, random in every tensor, norms and biases too; always the same."""

    def make(config: EncoderConfig) -> Checkpoint:
        assert config.vocabulary_size >= tiny_tokenizer.size
        generator = torch.Generator().manual_seed(3)
        encoder, head = Encoder(config, generator), MaskedLanguageHead(config, generator)
        with torch.no_grad():
            for parameter in (*encoder.parameters(), *head.parameters()):
                if parameter.ndim == 1:
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
        return Checkpoint(encoder, head, tiny_tokenizer, "mean", True, 32, "tiny", config.to_hugging_face())

    return make


@pytest.fixture
def masked_loss(model: Any, tiny_data: Any) -> Callable[[EncoderConfig], StepLoss]:
    """Makes the masked-language loss of all sentences for models of a shape; the same at every step."""

    def make(config: EncoderConfig) -> StepLoss:
        objective = build_objective(MaskedLanguageConfig(), tiny_data, model(config), seed=0)
        inputs = objective.collate(np.arange(24), np.random.default_rng(0)).inputs

        def loss(encoder: Encoder, head: Any, step: int) -> torch.Tensor:
            return named_tokens_loss(encoder, head, encoder(inputs.packed), inputs.places, inputs.targets)

        return loss

    return make


@pytest.fixture(scope="session")
def batch() -> PackedBatch:
    """Sequences of several lengths."""
    generator = np.random.default_rng(0)
    return pack([generator.integers(5, 400, length) for length in (1, 7, 30)])
