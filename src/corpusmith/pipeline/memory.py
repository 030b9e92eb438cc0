"""How much memory each step of a build will need, told before it begins.

What is predicted is the largest resident size of the process, as manifests record it: anonymous memory, which never
falls from one step to the next since freed blocks are kept (`environment.keep_freed_memory`), and the files that the
step maps, which the system takes back when memory is short. Where it begins is not predicted but looked up: the process
with its libraries, of which the system maps more or less as it likes, and with the model, once the machine has been
measured with it. What comes to it is what reading documents leaves behind in the heap, and what products of ever other
shapes leave there, which grows over some dozens of batches and then no more.

The figures were fitted to builds with all-MiniLM-L6-v2 and with a model of two layers, and to corpora of a thousand to
a million passages; other models are extrapolated. benchmarks/faults/memory.py says how far they are off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from corpusmith.model.config import EncoderConfig
from corpusmith.retrieval.dense import BATCH_TOKENS

READING_BYTES = 100_000_000
"""What reading, cutting and counting texts leaves behind."""
BYTES_A_PARAMETER = 6
"""float32 weights and their copy in bf16."""
TRAINING_BYTES_A_PARAMETER = 16
"""Weights to train, gradients, AdamW's two moments."""
SEARCH_BYTES = 20_000_000
"""What ranking a batch of queries holds."""
BYTES_AN_ACTIVATION = 23
"""Held in a step of training for each token, layer and hidden unit."""
FIRST_BATCH, ENCODING, LATE, TRAINING = 2.0, 16.0, 4.0, 15.0
"""What the first batch of encoding, all of them, late interaction after them, and training leave behind in the heap, in
activations of a layer."""
SETTLED_BATCHES = 20.0
"""Batches after which encoding has left 63% of what follows the first one."""
MAPPED_BYTES_A_TOKEN = {"lexical": 17, "pairs": 17, "base": 2, "trained": 2}
MAPPED_BYTES_A_PASSAGE = {"corpus": 430, "tokens": 400, "heldout": 700}
MAPS_VECTORS = ("base", "pairs", "trained", "choice", "evaluation")
MAPS_SENTENCES = ("sentences", "choice", "evaluation")


@dataclass(frozen=True, slots=True)
class Memory:
    """Predictions for a model of so many parameters and a corpus of so many tokens and passages, of which so many
    sentences get vectors, from a process of so many resident bytes on."""

    config: EncoderConfig
    parameters: int
    tokens: float
    passages: float
    sentences: float
    resident: int

    @property
    def layer_bytes(self) -> int:
        """Activations of one layer for a batch of encoding: queries, keys, values, output, feed-forward part."""
        return BATCH_TOKENS["cpu"] * (4 * self.config.hidden_size + self.config.intermediate_size) * 2

    def resting(self) -> float:
        """What the process holds between steps that use the model."""
        return self.resident + READING_BYTES

    def held(self, step: str) -> float:
        """What the process holds in a step other than training, but for the files that the step maps."""
        settled = 1 - math.exp(-self.tokens / BATCH_TOKENS["cpu"] / SETTLED_BATCHES)
        encoding = self.layer_bytes * (FIRST_BATCH + (ENCODING - FIRST_BATCH) * settled)
        if step in ("base", "trained", "sentences"):
            return self.resting() + encoding
        if step in ("choice", "evaluation"):
            return self.resting() + encoding + self.layer_bytes * LATE * settled + SEARCH_BYTES
        return self.resting() + (SEARCH_BYTES if step == "pairs" else 0)

    def training(self, step_tokens: int) -> float:
        """What a stage of training adds, with so many tokens passing through the encoder at a time."""
        activations = BYTES_AN_ACTIVATION * step_tokens * self.config.layers * self.config.hidden_size
        return TRAINING_BYTES_A_PARAMETER * self.parameters + TRAINING * self.layer_bytes + activations

    def mapped(self, step: str) -> float:
        """Files that a step holds in memory as long as there is room."""
        vectors = 4 * self.config.hidden_size * self.passages if step in MAPS_VECTORS else 0
        vectors += 2 * self.config.hidden_size * self.sentences if step in MAPS_SENTENCES else 0
        of_tokens = MAPPED_BYTES_A_TOKEN.get(step, 0) * self.tokens
        return vectors + of_tokens + MAPPED_BYTES_A_PASSAGE.get(step, 0) * self.passages
