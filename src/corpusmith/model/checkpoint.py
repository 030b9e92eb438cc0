"""A model with all that belongs to it: weights, tokenizer, and how its vectors are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.pooling import Pooling
from corpusmith.vocabulary.tokenizer import Tokenizer


@dataclass
class Checkpoint:
    """What `load_checkpoint` gives and `export_checkpoint` writes.

    Attributes:
        encoder: with float32 weights; training changes it in place.
        head: the masked-language head, None where the checkpoint has none.
        tokenizer: the checkpoint's own.
        pooling: how hidden states become one vector.
        normalize: whether vectors are scaled to length 1.
        max_tokens: tokens of a sequence, special tokens included; what is longer is cut.
        name: where it came from, for people to read.
        hf_config: the content of its config.json, carried through to exports.
        prompts: texts that its users put before queries or documents, by name; carried through to exports.
        parts: files with what objectives keep beside the encoder (decoders, momentum encoders), by kind.
        cut_dimension: leading dimensions that vectors are cut to, before they are scaled; None leaves them whole.
            Objectives train them whole: `matryoshka` with this one among its dimensions trains the cut ones.
    """

    encoder: Encoder
    head: MaskedLanguageHead | None
    tokenizer: Tokenizer
    pooling: Pooling
    normalize: bool
    max_tokens: int
    name: str
    hf_config: dict[str, Any]
    prompts: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Path] = field(default_factory=dict)
    cut_dimension: int | None = None

    @property
    def dimension(self) -> int:
        """Width of its vectors."""
        return self.cut_dimension or self.encoder.config.hidden_size

    def to(self, device: torch.device) -> Self:
        """Itself, with its weights moved to this device."""
        self.encoder.to(device)
        if self.head is not None:
            self.head.to(device)
        return self
