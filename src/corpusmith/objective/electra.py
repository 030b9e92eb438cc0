"""ELECTRA: the encoder tells which tokens of a passage a small generator has replaced.

A share of each passage's tokens is hidden (set M, at the masking rate). A small generator, trained as a masked
language model, draws a word for each of them, and the encoder, the discriminator, reads the passage x' so made and
says of every token whether it is the one that stood there:

    L = 1/(r T') sum_{i in M} -log q_i(x_i)  +  lambda/T' sum_i BCE( w . act(W h_i + b) + c,  [x'_i != x_i] )

with h = encoder(x'), q the generator's distributions (`generator.py`), the second sum over all T' ordinary tokens and
r the masking rate, so that the first is a mean over the hidden tokens. A word that happens to be the original one
counts as original. The encoder learns from every token rather than from the hidden ones alone.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h `[T, D]` packed, generator's states `[T, G]`, one logit for each of the T' tokens.
After training the generator and the discriminator's head are dropped from the model and kept beside it, so that
training can go on. A masked-language head that the checkpoint had is not trained.

Where we depart from the paper or it is silent:
- The encoder usually comes from a checkpoint and the generator from chance, so at first its words are easily told;
  the authors train both from scratch.
- Only the token embeddings are shared, not the positions, so that encoders with rotary positions can be trained as
  well. The generator has the encoder's depth and `generator_width` of its widths.
- The generator never draws a special token, and the encoder is not asked about special tokens: the answer would
  always be the same.
- All hidden tokens stand behind the mask token, as the paper has it; the authors' code leaves 15% of them visible.

Example:
    >>> objective = build_objective(ElectraConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: masked language modelling is the generator's term alone, asked of the encoder; SimLM asks for the original
tokens in place of a choice of two, and gives a decoder the passage's vector. Here nothing is asked of the vector.

Citation: Clark, Luong, Le, Manning (2020), "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than
Generators", ICLR, sections 2 and 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.layers import activate, initialise
from corpusmith.model.linear import Linear
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.objective.base import Batch, Loss, PassageObjective
from corpusmith.objective.config import ElectraConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.generator import Generator, GeneratorInputs, generator_inputs
from corpusmith.objective.masked_language import named_tokens_loss
from corpusmith.objective.masking import Masking

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class ElectraInputs:
    """`generator`: what it must fill in. `original`: the passages as they are; `places` (int64 `[T']`): their
    ordinary tokens."""

    generator: GeneratorInputs
    original: PackedBatch
    places: torch.Tensor


class DetectionHead(nn.Module):
    """`w . act(W h + b) + c`: one logit a token, above 0 where it seems replaced."""

    def __init__(self, config: EncoderConfig, source: torch.Generator) -> None:
        super().__init__()
        self.activation = config.head_activation
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.output = Linear(config.hidden_size, 1)
        initialise(self, config, source)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[M, D]` to float32 `[M]`."""
        return self.output(activate(self.activation, self.dense(hidden)))[:, 0].float()


class Electra(PassageObjective):
    """Replaced token detection; see the module's text."""

    def __init__(self, config: ElectraConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.detection_weight = config.detection_weight
        self.masking = Masking(config, checkpoint.tokenizer, data)
        source, size = torch.Generator().manual_seed(seed), checkpoint.encoder.config
        self.generator = Generator(size, config.generator_width, self.max_tokens, self.masking.ordinary_ids, source)
        self.detector = DetectionHead(size, source)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages, hide tokens, and draw the numbers that the generator's words depend on."""
        original = pack(self.sequences(examples))
        ids, lengths = original.ids.numpy(), original.lengths.numpy().astype(np.int64)
        draws = rng.random((len(ids), 4))
        masked = self.masking(ids, lengths, draws[:, :3], self.progress)
        places = torch.from_numpy(np.flatnonzero(self.masking.is_ordinary[ids]))
        return Batch(lengths, ElectraInputs(generator_inputs(original, masked, draws[:, 3]), original, places))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The generator's mean cross-entropy and the encoder's weighted mean binary cross-entropy, added."""
        inputs: ElectraInputs = batch.inputs
        device = next(encoder.parameters()).device
        masked = inputs.generator.masked
        states = self.generator(encoder, masked.packed.to(device))
        expected = self.masking.rate(self.progress) * len(inputs.places)
        generator_loss = named_tokens_loss(
            encoder, self.generator.head, states, masked.places, masked.targets, units=expected
        )
        changed = self.generator.fill_in(encoder, states, inputs.generator)
        logits, replaced = self.detect(encoder, changed, inputs)
        detection_loss = F.binary_cross_entropy_with_logits(logits, replaced.float(), reduction="sum")
        detection_loss = detection_loss / max(1, len(replaced))
        parts = {"generator": float(generator_loss.detach()), "detection": float(detection_loss.detach())}
        return Loss(generator_loss + self.detection_weight * detection_loss, float(len(replaced)), parts)

    def detect(
        self, encoder: Encoder, changed: PackedBatch, inputs: ElectraInputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """For all ordinary tokens of the passages: the encoder's logits that they were replaced (float32 `[T']`), and
        whether they were (bool `[T']`)."""
        places = inputs.places.to(changed.ids.device)
        replaced = (changed.ids != inputs.original.ids.to(changed.ids.device))[places]
        return self.detector(encoder(changed)[places]), replaced

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, the generator's with the words it draws, and the discriminator's head on all tokens."""
        inputs: ElectraInputs = batch.inputs
        predictions, width = len(inputs.generator.draws), encoder.config.hidden_size
        generator = 3 * self.generator.flops(batch.lengths, predictions) + self.generator.head_flops(predictions)
        return super().flops(encoder, batch) + generator + 3 * len(inputs.places) * 2.0 * width * (width + 1)
