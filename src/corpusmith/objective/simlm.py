"""SimLM: encoder, and a weak decoder with the encoder's vector, restore passages in which a generator changed words.

A small generator (`generator.py`) fills in hidden tokens of the passage x twice: a share of them for the encoder, x',
and a larger one for the decoder, x''. The encoder names the original token of every position from x', and so does the
decoder from x'' and the passage's vector v, which must carry what x'' has lost:

    h = encoder(x'),  v = pool(h)
    O = decoder(v, e(x''_1), e(x''_2), ...)               v stands where x''_0, the opening token, stood
    L = 1/T' sum_i -log softmax( head(h_i) )[x_i]  +  1/T' sum_i -log softmax( head(O_i) )[x_i]
        + w / (r T') sum_{i in M} -log q_i(x_i)

over all T' ordinary tokens, whether changed or not: the first two must also find out where something is wrong. The
third is the generator's own, over the tokens M hidden for the encoder, r their rate. One head serves encoder and
decoder, tied to the token embedding e. The encoder never reads a mask token, as it never will in use.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h, O `[T, D]` packed, v `[B, D]`.
Generator and decoder are dropped after training and kept beside the model; the head is kept with it where the
checkpoint had one.

Where we depart from the paper or it is silent:
- The authors take a pretrained generator and leave it as it is. Here there is none: it starts from chance and is
  trained along with `generator_weight`, the value that the authors' code has for that case. As there, the tokens
  hidden from the decoder are those hidden from the encoder and more, and the generator learns from the first.
- The decoder starts from chance, not as a copy of the encoder's last layers, which may be of another kind.
- v is whatever the checkpoint uses as its vector, where the paper takes the state at [CLS]. It is not normalised here.
- e is the embedding without the encoder's own positions; the decoder has its own.

Example:
    >>> objective = build_objective(SimLMConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: RetroMAE has mask tokens in place of the generator and asks the encoder for these alone; ELECTRA has the
generator and asks whether a token was changed, not what it was.

Citation: Wang, Yang, Huang, Jiao, Yang, Jiang, Majumder, Wei (2023), "SimLM: Pre-training with Representation
Bottleneck for Dense Passage Retrieval", ACL, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.model.pooling import pool
from corpusmith.objective.base import Batch, Loss, PassageObjective
from corpusmith.objective.config import SimLMConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.decoders import BottleneckDecoder
from corpusmith.objective.generator import Generator, GeneratorInputs, generator_inputs
from corpusmith.objective.masked_language import head_flops, masked_language_head, named_tokens_loss
from corpusmith.objective.masking import Masking

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class SimLMInputs:
    """`encoder`, `decoder`: what the generator fills in for each. `places`, `targets` (int64 `[T']`): the passages'
    ordinary tokens."""

    encoder: GeneratorInputs
    decoder: GeneratorInputs
    places: torch.Tensor
    targets: torch.Tensor


class SimLM(PassageObjective):
    """SimLM pretraining; see the module's text."""

    def __init__(self, config: SimLMConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.generator_weight = config.generator_weight
        decoder_masking = config.model_copy(update={"masking_rate": config.decoder_masking_rate, "final_rate": None})
        self.encoder_masking = Masking(config, checkpoint.tokenizer, data)
        self.decoder_masking = Masking(decoder_masking, checkpoint.tokenizer, data)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)
        source, size = torch.Generator().manual_seed(seed), checkpoint.encoder.config
        ordinary_ids = self.encoder_masking.ordinary_ids
        self.generator = Generator(size, config.generator_width, self.max_tokens, ordinary_ids, source)
        self.decoder = BottleneckDecoder(size, config.decoder_layers, self.max_tokens, source)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages and hide tokens twice: the same draws at a higher rate hide the same tokens and more."""
        original = pack(self.sequences(examples))
        ids, lengths = original.ids.numpy(), original.lengths.numpy().astype(np.int64)
        draws = rng.random((len(ids), 5))
        places = np.flatnonzero(self.encoder_masking.is_ordinary[ids])
        maskings = self.encoder_masking, self.decoder_masking
        hidden = [masking(ids, lengths, draws[:, :3], self.progress) for masking in maskings]
        inputs = SimLMInputs(
            encoder=generator_inputs(original, hidden[0], draws[:, 3]),
            decoder=generator_inputs(original, hidden[1], draws[:, 4]),
            places=torch.from_numpy(places),
            targets=torch.from_numpy(ids[places]),
        )
        return Batch(lengths, inputs)

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The encoder's and the decoder's mean cross-entropies and the generator's weighted one, added."""
        inputs: SimLMInputs = batch.inputs
        masked = inputs.encoder.masked
        states = self.generator(encoder, masked.packed.to(next(encoder.parameters()).device))
        expected = self.encoder_masking.rate(self.progress) * len(inputs.targets)
        generator_loss = named_tokens_loss(
            encoder, self.generator.head, states, masked.places, masked.targets, units=expected
        )
        changed = self.generator.fill_in(encoder, states, inputs.encoder)
        hidden = encoder(changed)
        encoder_loss = named_tokens_loss(encoder, self.head, hidden, inputs.places, inputs.targets)
        decoder_loss = self.decoder_loss(encoder, pool(hidden, changed, self.pooling), inputs)
        parts = {"encoder": encoder_loss, "decoder": decoder_loss, "generator": generator_loss}
        return Loss(
            encoder_loss + decoder_loss + self.generator_weight * generator_loss,
            float(len(inputs.targets)),
            {name: float(part.detach()) for name, part in parts.items()},
        )

    @torch.no_grad()
    def changed(self, encoder: Encoder, inputs: GeneratorInputs) -> PackedBatch:
        """The passages with the generator's words, on the encoder's device."""
        packed = inputs.masked.packed.to(next(encoder.parameters()).device)
        return self.generator.fill_in(encoder, self.generator(encoder, packed), inputs)

    def decoder_loss(self, encoder: Encoder, vectors: torch.Tensor, inputs: SimLMInputs) -> torch.Tensor:
        """Mean cross-entropy of restoring all ordinary tokens from the passages' `vectors[B, D]`."""
        changed = self.changed(encoder, inputs.decoder)
        embedded = encoder.embeddings.tokens(changed.ids)
        restored = self.decoder(vectors, embedded, changed, encoder.compute_dtype)
        return named_tokens_loss(encoder, self.head, restored, inputs.places, inputs.targets)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, the decoder's, the head's for both, and the generator's: once with its loss and the words it
        draws for the encoder, once for the decoder's words alone."""
        inputs: SimLMInputs = batch.inputs
        trained, drawn = len(inputs.encoder.draws), len(inputs.decoder.draws)
        generator = 3 * self.generator.flops(batch.lengths, trained) + self.generator.head_flops(trained)
        generator += self.generator.flops(batch.lengths, drawn)
        decoder = 3 * self.decoder.flops(batch.lengths)
        return super().flops(encoder, batch) + decoder + generator + head_flops(encoder, 2 * len(inputs.targets))
