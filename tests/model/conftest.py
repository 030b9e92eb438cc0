"""Tiny random models of `transformers`, saved to a folder, to hold ours against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##s", "##ing", *(f"word{i}" for i in range(90))]
LONGEST = 40

SHARED: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": LONGEST,
    "initializer_range": 0.3,
}
CONFIGS = {
    "bert": transformers.BertConfig(**SHARED, intermediate_size=48),
    "minilm": transformers.BertConfig(
        **(SHARED | {"num_attention_heads": 8}), intermediate_size=128, hidden_act="relu"
    ),
    "roberta": transformers.RobertaConfig(
        **(SHARED | {"max_position_embeddings": LONGEST + 2}), intermediate_size=48, type_vocab_size=1
    ),
    "xlm-roberta": transformers.XLMRobertaConfig(
        **(SHARED | {"max_position_embeddings": LONGEST + 2}), intermediate_size=48, type_vocab_size=1
    ),
    "modernbert": transformers.ModernBertConfig(
        **SHARED,
        intermediate_size=24,
        local_attention=10,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        embedding_dropout=0.0,
    ),
}


class Reference:
    """What the tests of this room ask of `transformers`."""

    configs = CONFIGS

    @staticmethod
    def masked_language_model(kind: str) -> transformers.PreTrainedModel:
        """A model with head, random in every tensor (norms and biases too), without dropout."""
        with torch.random.fork_rng():
            torch.manual_seed(7)
            model = transformers.AutoModelForMaskedLM.from_config(CONFIGS[kind])
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if parameter.ndim == 1:
                        parameter.normal_(1.0 if "norm" in name.lower() and "weight" in name else 0.0, 0.2)
        return model.eval()

    @staticmethod
    def tokenizer() -> tokenizers.Tokenizer:
        """A WordPiece tokenizer over `VOCABULARY`."""
        backend = tokenizers.Tokenizer(
            tokenizers.models.WordPiece({piece: i for i, piece in enumerate(VOCABULARY)}, unk_token="[UNK]")
        )
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        backend.add_special_tokens(VOCABULARY[:5])
        return backend

    @staticmethod
    def save(model: transformers.PreTrainedModel, folder: Path) -> Path:
        """Save a model with the tokenizer, as a user's checkpoint would lie there."""
        model.save_pretrained(folder)
        Reference.tokenizer().save(str(folder / "tokenizer.json"))
        return folder

    @staticmethod
    def sequences(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
        """Random token sequences, no padding tokens inside."""
        generator = np.random.default_rng(seed)
        return [generator.integers(5, len(VOCABULARY), length) for length in lengths]

    @staticmethod
    def padded(batch: list[np.ndarray], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
        """ids and mask, `[B, L]`, as `transformers` wants them."""
        longest = max(map(len, batch))
        ids = torch.full((len(batch), longest), pad, dtype=torch.int64)
        for row, sequence in zip(ids, batch, strict=True):
            row[: len(sequence)] = torch.from_numpy(sequence)
        mask = torch.arange(longest) < torch.tensor([len(sequence) for sequence in batch])[:, None]
        return ids, mask.long()


@pytest.fixture(scope="session")
def reference() -> type[Reference]:
    return Reference
