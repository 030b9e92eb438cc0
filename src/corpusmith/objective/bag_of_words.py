"""Bag-of-words prediction: the passage's vector, sent through the masked-language head, names the passage's tokens.

The encoder reads the passage x with a share of its tokens hidden and gives hidden states h and, pooled, the passage's
vector v. It answers for the hidden tokens (set M, at the masking rate r) as in masked language modelling. The vector
goes through the same head, and one softmax over the vocabulary must give probability to every token of the passage,
hidden or not, each distinct one once (set(x)); order and number do not count:

    L = - 1/(r T') sum_{i in M} log softmax( head(h_i) )[x_i]
        - 1/T' sum_x sum_{w in set(x)} log softmax( head(v_x) )[w]

T' are all ordinary tokens of the batch. The first term is so a mean over the hidden tokens, the second the
multi-label cross-entropy of the vectors. There is no decoder and no parameter beside the head's.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: h `[T, D]` packed, v `[B, D]`, logits of the vectors `[B, V]`, of which a few rows are held at a time.
The head is kept where the checkpoint had one of its own.

Where we depart from the paper or it is silent:
- v is whatever the checkpoint uses as its vector, the mean of h for MiniLM and its like, where the paper takes the
  state at [CLS]: what is trained must be what is searched with. It is not normalised here, since the head was made
  for states of their own length.
- The paper writes the cross-entropy of a set and does not say what it is divided by. Here both terms count tokens:
  a batch of long passages weighs neither term more than one of short passages, and parts of a batch add up to it.
- The set holds ordinary tokens only, and whole words are hidden, as for RetroMAE.

Example:
    >>> objective = build_objective(BagOfWordsConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: RetroMAE with its decoder replaced by one product; DupMAE asks the same of the tokens' states instead.

Citation: Ma, Wu, Lin, Hu (2024), "Drop your Decoder: Pre-training with Bag-of-Word Prediction for Dense Passage
Retrieval", SIGIR, section on bag-of-word prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpusmith.model.encoder import Encoder
from corpusmith.model.heads import MaskedLanguageHead
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.objective.base import Batch, Loss, PassageObjective
from corpusmith.objective.config import BagOfWordsConfig
from corpusmith.objective.cross_entropy import Bags, bag_cross_entropy
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masked_language import (
    MaskedInputs,
    head_flops,
    masked_inputs,
    masked_language_head,
    named_tokens_loss,
)
from corpusmith.objective.masking import Masking

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class BagInputs:
    """`encoder`: what the encoder reads and must name; `bags`: the passages' own tokens."""

    encoder: MaskedInputs
    bags: Bags


class BagOfWords(PassageObjective):
    """Bag-of-words prediction; see the module's text."""

    def __init__(self, config: BagOfWordsConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.masking = Masking(config, checkpoint.tokenizer, data)
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Pack the passages, hide tokens, and note which tokens each passage has."""
        sequences = self.sequences(examples)
        lengths = np.array([len(sequence) for sequence in sequences])
        original = pack(sequences)
        ids = original.ids.numpy()
        masked = self.masking(ids, lengths, rng.random((len(ids), 3)), self.progress)
        bags = bags_of(ids, lengths, self.masking.is_ordinary)
        return Batch(lengths, BagInputs(masked_inputs(original, masked), bags))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The cross-entropies of the hidden tokens and of the vectors' bags, both over all ordinary tokens."""
        inputs: BagInputs = batch.inputs
        packed = inputs.encoder.packed.to(next(encoder.parameters()).device)
        hidden = encoder(packed)
        words = int(inputs.bags.lengths.sum())
        expected = self.masking.rate(self.progress) * words
        encoder_loss = named_tokens_loss(
            encoder, self.head, hidden, inputs.encoder.places, inputs.encoder.targets, units=expected
        )
        vectors = pool(hidden, packed, self.pooling)[inputs.bags.passages.to(hidden.device)].to(hidden.dtype)
        bag_loss = bag_of_words_loss(encoder, self.head, vectors, inputs.bags)
        parts = {"encoder": float(encoder_loss.detach()), "bag": float(bag_loss.detach())}
        return Loss(encoder_loss + bag_loss, float(words), parts)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, and the head's on the hidden tokens and the vectors."""
        predictions = len(batch.inputs.encoder.targets) + len(batch.inputs.bags.passages)
        return super().flops(encoder, batch) + head_flops(encoder, predictions)


def bags_of(ids: np.ndarray, lengths: np.ndarray, is_ordinary: np.ndarray) -> Bags:
    """The distinct ordinary tokens of packed sequences.

    Args:
        ids: `int64[T]`.
        lengths: `int64[B]` tokens of each sequence.
        is_ordinary: `bool[V]`, False for special tokens.
    """
    ordinary = is_ordinary[ids]
    sequence = np.repeat(np.arange(len(lengths)), lengths)[ordinary]
    distinct = np.unique(sequence * len(is_ordinary) + ids[ordinary])
    words = np.bincount(sequence, minlength=len(lengths))
    counts = np.bincount(distinct // len(is_ordinary), minlength=len(lengths))
    passages = np.flatnonzero(words)
    return Bags(
        torch.from_numpy(passages),
        torch.from_numpy(distinct % len(is_ordinary)),
        counts[passages],
        words[passages],
    )


def bag_of_words_loss(encoder: Encoder, head: MaskedLanguageHead, hidden: torch.Tensor, bags: Bags) -> torch.Tensor:
    """Cross-entropy of the distinct tokens of all passages, their sum over the number of all ordinary tokens; 0 where
    there is none.

    Args:
        encoder: whose token embedding the head shares.
        head: the masked-language head.
        hidden: `[P, D]`, a vector of each passage in `bags`, or `[T', D]`, the states of their ordinary tokens, of
            whose logits the largest count.
        bags: the words to predict.
    """
    if len(bags.tokens) == 0:
        return hidden.sum() * 0
    embedding = encoder.embeddings.tokens.weight
    mean = bag_cross_entropy(
        lambda rows: head(rows, embedding),
        hidden,
        bags,
        [embedding, *head.parameters()],
        encoder.config.vocabulary_size,
    )
    return mean * (len(bags.tokens) / int(bags.lengths.sum()))
