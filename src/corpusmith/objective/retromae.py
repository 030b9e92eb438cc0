"""RetroMAE: a weak decoder rebuilds the passage from its vector, so the vector must say what the passage says.

The encoder reads the passage x with a share of its tokens hidden and gives hidden states h and, pooled, the passage's
vector v. It answers for the hidden tokens as in masked language modelling. A decoder of one layer must then name
*every* token of the passage, from v and a random part of the others ("enhanced decoding"): two streams of inputs,

    H1_i = norm(v + p_i)                                  queries: the vector at each position
    H2_0 = norm(v),   H2_i = norm(e(x_i) + p_i)           context: the vector, then the tokens themselves
    A    = norm(H1 + Attention(H1 W_Q, H2 W_K, H2 W_V; S))
    O    = norm(A + FeedForward(A))

where position i may look at S_i: position 0 always, itself never, each other position with probability
`visible_rate`, drawn anew for every position. The loss is the sum of the two,

    L = - 1/(r T') sum_{i hidden} log softmax( head(h_i) )[x_i]  -  1/T' sum_i log softmax( head(O_i) )[x_i],

the second over all T' ordinary tokens; r is the masking rate, so the first is a mean over the hidden tokens. One head
serves both, tied to the token embedding e.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h `[T, D]` packed, v `[B, D]`, H1, H2, A, O `[T, D]`, S `[B, L, L]` with L the longest passage.
The decoder, its positions and norms are dropped after training; the head is kept where the checkpoint had one.

Where we depart from the paper or it is silent:
- v is whatever the checkpoint uses as its vector, the mean of h for MiniLM and its like, where the paper takes the
  state at [CLS]: what is trained must be what is searched with. It is not normalised here.
- S is drawn token by token rather than in a fixed number; e is the embedding without the encoder's own positions,
  and p belongs to the decoder, so that encoders with rotary positions can be trained as well.
- Whole words are hidden, as in the authors' code.

Example:
    >>> objective = build_objective(RetroMAEConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: TSDAE also rebuilds from the vector, with a full decoder and deleted tokens; masked language modelling is
the first of the two terms alone.

Citation: Xiao, Liu, Shao, Cao (2022), "RetroMAE: Pre-Training Retrieval-oriented Language Models Via Masked
Auto-Encoder", EMNLP, sections 3.1 to 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from corpusmith.model.attention import AttentionLayout
from corpusmith.model.config import EncoderConfig
from corpusmith.model.encoder import Encoder
from corpusmith.model.layers import Norm, TransformerLayer, initialise
from corpusmith.model.packed import PackedBatch, pack
from corpusmith.model.pooling import pool
from corpusmith.objective.base import Batch, Loss, Objective
from corpusmith.objective.config import RetroMAEConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masked_language import (
    MaskedInputs,
    head_flops,
    masked_language_head,
    named_tokens_loss,
    rows_with_words,
    with_ids,
)
from corpusmith.objective.masking import Masking

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class RetroInputs:
    """`encoder`: what the encoder reads and must name. `original`: the passages as they are; `places` and `targets`
    (int64 `[T']`): their ordinary tokens; `visible`: bool `[B, L, L]`, what the decoder's positions may see."""

    encoder: MaskedInputs
    original: PackedBatch
    places: torch.Tensor
    targets: torch.Tensor
    visible: torch.Tensor


class RetroMAE(Objective):
    """RetroMAE pretraining; see the module's text."""

    learning_rate = 5e-5

    def __init__(self, config: RetroMAEConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.visible_rate = config.visible_rate
        self.masking = Masking(config, checkpoint.tokenizer)
        self.rows = rows_with_words(data)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)
        generator = torch.Generator().manual_seed(seed)
        self.decoder = EnhancedDecoder(checkpoint.encoder.config, self.max_tokens, generator)

    def lengths(self) -> np.ndarray:
        """`int64[n]` tokens of each passage, special tokens included."""
        return np.minimum(self.data.passages.lengths[self.rows] + 2, self.max_tokens)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages, hide tokens from the encoder, and draw what each position of the decoder sees."""
        sequences = [
            self.tokenizer.with_specials(self.data.passages[row], self.max_tokens) for row in self.rows[examples]
        ]
        lengths = np.array([len(sequence) for sequence in sequences])
        draws = [(rng.random((n, 3)), rng.random((n, n), dtype=np.float32)) for n in lengths]
        original = pack(sequences)
        ids = original.ids.numpy()
        masked = self.masking(ids, lengths, np.concatenate([tokens for tokens, _ in draws]))
        named = np.flatnonzero(self.masking.is_ordinary[ids])
        inputs = RetroInputs(
            encoder=MaskedInputs(
                with_ids(original, masked.ids), torch.from_numpy(masked.places), torch.from_numpy(masked.targets)
            ),
            original=original,
            places=torch.from_numpy(named),
            targets=torch.from_numpy(ids[named]),
            visible=torch.from_numpy(self._visible([square for _, square in draws])),
        )
        return Batch(lengths, inputs)

    def _visible(self, draws: Sequence[np.ndarray]) -> np.ndarray:
        """`bool[B, L, L]` from uniform draws `[length, length]`: what each position (row) of a passage may see."""
        longest = max(map(len, draws))
        visible = np.zeros((len(draws), longest, longest), dtype=bool)
        for passage, draw in zip(visible, draws, strict=True):
            passage[: len(draw), : len(draw)] = draw < self.visible_rate
        visible[:, np.arange(longest), np.arange(longest)] = False
        visible[:, :, 0] = True
        return visible

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The encoder's and the decoder's mean cross-entropies, added."""
        inputs: RetroInputs = batch.inputs
        device = next(encoder.parameters()).device
        masked = inputs.encoder.packed.to(device)
        hidden = encoder(masked)
        encoder_loss = named_tokens_loss(encoder, self.head, hidden, inputs.encoder.places, inputs.encoder.targets)
        decoder_loss = self.decoder_loss(encoder, pool(hidden, masked, self.pooling), inputs)
        expected = self.masking.config.masking_rate * len(inputs.targets)
        encoder_loss = encoder_loss * (len(inputs.encoder.targets) / max(expected, 1e-9))
        parts = {"encoder": float(encoder_loss.detach()), "decoder": float(decoder_loss.detach())}
        return Loss(encoder_loss + decoder_loss, float(len(inputs.targets)), parts)

    def decoder_loss(self, encoder: Encoder, vectors: torch.Tensor, inputs: RetroInputs) -> torch.Tensor:
        """Mean cross-entropy of rebuilding all ordinary tokens from the passages' `vectors[B, D]`."""
        original = inputs.original.to(vectors.device)
        embedded = encoder.embeddings.tokens(original.ids)
        rebuilt = self.decoder(vectors, embedded, original, inputs.visible.to(vectors.device), encoder.compute_dtype)
        return named_tokens_loss(encoder, self.head, rebuilt, inputs.places, inputs.targets)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, the decoder's, and the head's for both."""
        predictions = len(batch.inputs.encoder.targets) + len(batch.inputs.targets)
        decoder = 3 * self.decoder.flops(batch.lengths)
        return super().flops(encoder, batch) + decoder + head_flops(encoder, predictions)

    def fresh_parameters(self) -> Iterable[nn.Parameter]:
        """The decoder's, and the head's if the checkpoint had none."""
        return (*self.decoder.parameters(), *(self.head.parameters() if self.head_is_fresh else ()))


class EnhancedDecoder(nn.Module):
    """One Transformer layer whose queries come from one stream and whose keys and values come from another.

    It is a layer of BERT's kind (norms behind, no rotary positions) in the encoder's sizes, whatever the encoder is.
    """

    def __init__(self, config: EncoderConfig, max_tokens: int, generator: torch.Generator) -> None:
        super().__init__()
        config = replace(config, norm_first=False, rotary=False, windowed=())
        self.positions = nn.Embedding(max_tokens, config.hidden_size)
        self.query_norm, self.context_norm = Norm(config), Norm(config)
        self.layer = TransformerLayer(config)
        initialise(self, config, generator)

    def forward(
        self,
        vectors: torch.Tensor,
        embedded: torch.Tensor,
        packed: PackedBatch,
        visible: torch.Tensor,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """Rebuilt states `[T, D]`, computed in `dtype`.

        Args:
            vectors: float32 `[B, D]`, one a passage.
            embedded: float32 `[T, D]`, embeddings of the passages' tokens.
            packed: the passages; only lengths and positions are read.
            visible: bool `[B, L, L]`, L the longest passage: which positions each may look at.
            dtype: float32 or bfloat16.
        """
        lengths = packed.lengths.to(vectors.device, torch.int64)
        repeated = vectors.repeat_interleave(lengths, dim=0, output_size=len(embedded))
        positions = self.positions(packed.positions)
        is_first = (packed.positions == 0)[:, None]
        queries = self.query_norm(repeated + positions)
        context = self.context_norm(torch.where(is_first, repeated, embedded + positions))
        layout = AttentionLayout(packed.lengths, vectors.device)
        return self.layer(context.to(dtype), layout, queries.to(dtype), visible)

    def flops(self, lengths: np.ndarray) -> float:
        """Floating-point operations of one forward pass; counted as `Encoder.flops` does."""
        weights = sum(part.weight.numel() for part in self.modules() if isinstance(part, nn.Linear))
        sizes, width = lengths.astype(np.float64), self.positions.embedding_dim
        return float(2.0 * sizes.sum() * weights + 4.0 * width * (sizes**2).sum())
