"""How much memory each step of a build will need, told before it begins.

What is predicted is the largest resident size of the process, as manifests record it: anonymous memory, which never
falls from one step to the next since freed blocks are kept (`environment.keep_freed_memory`), and the files that the
step maps, which the system takes back when memory is short. Anonymous memory is the process with its libraries; the
model, with a copy laid out for encoding; and what products of ever other shapes leave behind in the heap, which grows
over some dozens of batches and then no more.

The figures were fitted to builds with all-MiniLM-L6-v2 and with a model of two layers, and to corpora of a thousand to
a million passages; other models are extrapolated. benchmarks/faults/memory.py says how far they are off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from corpusmith.model.config import EncoderConfig
from corpusmith.retrieval.dense import BATCH_TOKENS

PROCESS_BYTES = 440_000_000
"""Python with all libraries, before there is a model."""
BYTES_A_PARAMETER = 6
"""float32 weights and their copy in bf16."""
TRAINING_BYTES_A_PARAMETER = 16
"""Weights to train, gradients, AdamW's two moments."""
SEARCH_BYTES = 90_000_000
"""What ranking a batch of queries holds."""
BYTES_AN_ACTIVATION = 23
"""Held in a step of training for each token, layer and hidden unit."""
PROBING, ENCODING, TRAINING = 2.5, 20.0, 15.0
"""What measuring the machine, encoding and training leave behind in the heap, in activations of a layer."""
SETTLED_BATCHES = 20.0
"""Batches after which encoding has left 63% of that."""
MAPPED_BYTES_A_TOKEN = {"lexical": 17, "pairs": 17, "base": 2, "trained": 2}
MAPPED_BYTES_A_PASSAGE = {"corpus": 430, "tokens": 400, "heldout": 700}
MAPS_VECTORS = ("base", "pairs", "trained", "choice", "evaluation")


@dataclass(frozen=True, slots=True)
class Memory:
    """Predictions for a model of so many parameters and a corpus of so many tokens and passages."""

    config: EncoderConfig
    parameters: int
    tokens: float
    passages: float

    @property
    def layer_bytes(self) -> int:
        """Activations of one layer for a batch of encoding: queries, keys, values, output, feed-forward part."""
        return BATCH_TOKENS["cpu"] * (4 * self.config.hidden_size + self.config.intermediate_size) * 2

    def resting(self) -> float:
        """The process with its model, once the plan has measured the machine."""
        return PROCESS_BYTES + BYTES_A_PARAMETER * self.parameters + PROBING * self.layer_bytes

    def held(self, step: str) -> float:
        """Anonymous memory that a step other than training needs."""
        if step in ("base", "trained"):
            batches = self.tokens / BATCH_TOKENS["cpu"]
            return self.resting() + ENCODING * self.layer_bytes * (1 - math.exp(-batches / SETTLED_BATCHES))
        return self.resting() + (SEARCH_BYTES if step in ("pairs", "choice", "evaluation") else 0)

    def training(self, step_tokens: int) -> float:
        """What a stage of training adds, with so many tokens passing through the encoder at a time."""
        activations = BYTES_AN_ACTIVATION * step_tokens * self.config.layers * self.config.hidden_size
        return TRAINING_BYTES_A_PARAMETER * self.parameters + TRAINING * self.layer_bytes + activations

    def mapped(self, step: str) -> float:
        """Files that a step holds in memory as long as there is room."""
        vectors = 4 * self.config.hidden_size * self.passages if step in MAPS_VECTORS else 0
        of_tokens = MAPPED_BYTES_A_TOKEN.get(step, 0) * self.tokens
        return vectors + of_tokens + MAPPED_BYTES_A_PASSAGE.get(step, 0) * self.passages
