from __future__ import annotations

import torch

from corpusmith.model.config import EncoderConfig
from corpusmith.model.heads import MaskedLanguageHead

CONFIG = EncoderConfig(
    model_type="bert",
    vocabulary_size=50,
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=32,
    max_positions=32,
)


def test_a_fresh_head_follows_its_generator() -> None:
    first, second, other = (MaskedLanguageHead(CONFIG, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.dense.weight, second.dense.weight)
    assert not torch.equal(first.dense.weight, other.dense.weight)


def test_logits_have_the_dtype_of_the_states_and_gradients_reach_the_embedding() -> None:
    head = MaskedLanguageHead(CONFIG)
    embedding = torch.nn.Embedding(50, 16)
    logits = head(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)).bfloat16(), embedding.weight)
    assert logits.shape == (3, 50)
    assert logits.dtype == torch.bfloat16
    logits.float().square().sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.dtype == torch.float32
    assert (embedding.weight.grad.abs().amax(1) > 0).all()
