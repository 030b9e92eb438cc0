"""Documents of several passages that share a title, names and links, and a plain way to compute vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from corpusmith.corpus.shards import write_shards
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.huggingface import export_checkpoint
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.model.pooling import pool
from corpusmith.objective.data import TrainingData

NAMES = ("heat pump", "claim form", "wing tip", "hash code", "blood count", "tail rotor", "lease term", "array slice")


@pytest.fixture(scope="session")
def linked_data(sentences: list[str], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """Eight documents of three passages, all beginning with the same title; the first two also say their document's
    name. Each document links to the next, the last to none."""
    texts = []
    for document, name in enumerate(NAMES):
        for i in range(3):
            says = (f"See {name} of a.", f"The {name} is b.", "")[i]
            texts.append(f"Note on it {' '.join(sentences[3 * document + i].split()[:8])}. {says}")
    passages = write_shards(texts, tiny_tokenizer, tmp_path_factory.mktemp("linked"))
    links = np.column_stack([np.arange(7), np.arange(1, 8)])
    return TrainingData(passages, np.arange(24), np.repeat(np.arange(8), 3), links=links)


@pytest.fixture
def texts_of() -> Callable[[Sequence[PackedBatch]], list[torch.Tensor]]:
    """The token sequences of packed batches, special tokens included."""

    def separate(pieces: Sequence[PackedBatch]) -> list[torch.Tensor]:
        return [piece.ids[a:b] for piece in pieces for a, b in pairwise(piece.cu_seqlens.tolist())]

    return separate


@pytest.fixture
def unit_vectors() -> Callable[..., torch.Tensor]:
    """`[S, D]` unit vectors of token sequences, encoded one at a time."""

    def encode(encoder: Any, texts: Sequence[torch.Tensor], pooling: str = "mean") -> torch.Tensor:
        packed = [pack([text.numpy()]) for text in texts]
        return F.normalize(torch.cat([pool(encoder(one), one, pooling) for one in packed]), dim=1)

    return encode


@pytest.fixture
def assert_equal_losses() -> Callable[..., None]:
    """Compares two losses and their gradients by an encoder's weights."""

    def compare(found: torch.Tensor, expected: torch.Tensor, encoder: torch.nn.Module) -> None:
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        parameters = list(encoder.parameters())
        gradients = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (found, expected)]
        assert any(g is not None and g.abs().max() > 1e-4 for g in gradients[1])
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-3)

    return compare


@pytest.fixture
def plain_info_nce() -> Callable[..., torch.Tensor]:
    """InfoNCE written out query by query; `candidates[i]` number query i's candidates, the positive first."""

    def compute(
        queries: torch.Tensor, vectors: torch.Tensor, candidates: Sequence[Sequence[int]], temperature: float
    ) -> torch.Tensor:
        losses = []
        for query, numbers in zip(queries, candidates, strict=True):
            scores = torch.stack([torch.dot(query, vectors[j]) / temperature for j in numbers])
            losses.append(torch.logsumexp(scores, dim=0) - scores[0])
        return torch.stack(losses).mean()

    return compute


@pytest.fixture
def teacher(tiny_tokenizer: Any, tmp_path: Any) -> Callable[..., Checkpoint]:
    """Makes a model of three layers with a head, random in every tensor, and writes it to a folder; its name is the
    folder's."""

    def make(**choices: Any) -> Checkpoint:
        sizes = {"hidden_size": 48, "layers": 3, "heads": 2, "intermediate_size": 64, "max_positions": 64} | choices
        config = EncoderConfig(model_type="bert", vocabulary_size=tiny_tokenizer.size, initializer_range=0.2, **sizes)
        generator = torch.Generator().manual_seed(11)
        encoder, head = Encoder(config, generator), MaskedLanguageHead(config, generator)
        with torch.no_grad():
            for parameter in (*encoder.parameters(), *head.parameters()):
                if parameter.ndim == 1:
                    parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        folder = tmp_path / f"teacher-{config.layers}-{config.hidden_size}-{config.heads}-{config.max_positions}"
        folder.mkdir()
        content = config.to_hugging_face()
        made = Checkpoint(encoder, head, tiny_tokenizer, "mean", True, 32, str(folder), content)
        export_checkpoint(made, folder, with_head=True)
        return made

    return make
