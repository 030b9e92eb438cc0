"""PROP: a cross-encoder learns which of two sets of words represents a passage better.

A query is thought of as a few words that its author would expect in the ideal passage. So a passage D is given two
sets of words, drawn from its own word distribution smoothed by the corpus's, and the encoder, which reads a set
together with the passage, must score the likelier one higher. At the same time it names hidden tokens of the passage:

    n ~ Poisson(set_length), 1 at least;     S1, S2: n words each, drawn from p(w | D)
    p(w | D) = (count of w in D + m p(w | corpus)) / (|D| + m)
    s(S)     = u . h_0 + c,                  h = encoder([CLS] S [SEP] D with tokens hidden [SEP])
    L        = 1/B sum max(0, margin - s(S+) + s(S-))  +  1/(B E) sum_{i hidden} - log softmax( head(h_i) )[x_i]

with S+ the set for which sum log p(w | D) is larger, B passages, m = `smoothing` mean passage lengths, and E the number
of hidden tokens that a passage of mean length has in both its sequences, so that the second term is their mean.

| input           | shape   | what it is                               |
|-----------------|---------|------------------------------------------|
| `data.passages` | N texts | token shards                             |
| `data.rows`     | [n]     | those that may be trained on             |

Shapes: 2B sequences a batch, S+ and then S- of each passage; scores `[2B]`. After training the score's u and c are kept
beside the model, for more of it and for `reranking`; the masked-language head is kept where the checkpoint had one.

Where we depart from the paper or it is silent:
- The passage takes the document's place. One pair of sets is drawn at each visit, instead of five beforehand.
- Words are runs of word pieces, unstemmed. Stop words are those that more than `common_share` of the passages hold,
  which needs no list for a language: they are in no set and not part of p.
- Words are drawn with replacement, as from any unigram model. m is given in mean passage lengths.
- Two sets that are equally likely, and passages of common words alone, leave the first term 0.
- Hidden tokens are those of the passage, the same in both sequences, so that the words alone tell them apart.
- There is no second segment embedding, and u is linear where the paper has a perceptron.

Example:
    >>> objective = build_objective(PropConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=10), folder, seed=0)

Relations: masked language modelling is the second term alone; `reranking` has the same input and head, with real
queries and mined passages. The model is then a cross-encoder: its vectors are not trained, so what training watches
says nothing of it (switch `training.keep_best` off). For a dense model the likelier sets are made into queries instead
(`pairs.kinds` with "words").

Citation: Ma, Guo, Zhang, Fan, Ji, Cheng (2021), "PROP: Pre-training with Representative Words Prediction for Ad-hoc
Retrieval", WSDM, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from corpusmith.model.cross_encoder import SPECIALS, ScoreHead, join, joined_lengths
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.objective.base import Batch, Loss, PassageObjective
from corpusmith.objective.config import PropConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.masked_language import MaskedInputs, head_flops, masked_language_head, named_tokens_loss
from corpusmith.objective.masking import Masking
from corpusmith.objective.statistics import count_words, word_at, word_keys

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


TIE = 1e-9
"""Log-likelihoods nearer than this differ by the order of summation alone."""


@dataclass(frozen=True, slots=True)
class WordSets:
    """Two sets of words of one passage: `likelier` and `other`, int64 ids of their tokens; `differ`, whether one of
    them is the likelier one at all."""

    likelier: np.ndarray
    other: np.ndarray
    differ: bool


@dataclass(frozen=True, slots=True)
class PropInputs:
    """`joined`: 2B sequences, the likelier set and then the other one of each passage, and the tokens hidden in both;
    `differ`: float32 `[B]`, 0 where neither set is the likelier one."""

    joined: MaskedInputs
    differ: torch.Tensor


class Prop(PassageObjective):
    """Representative words prediction; see the module's text."""

    learning_rate = 2e-5

    def __init__(self, config: PropConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.config = config
        self.masking = Masking(config, checkpoint.tokenizer, data)
        self.words = count_words(
            data.passages, self.rows, self.masking.is_word_start, self.masking.is_ordinary, config.common_share
        )
        self.smoothing = max(1e-3, config.smoothing * self.words.total / len(self.rows))
        self.mean_tokens = float(np.minimum(data.passages.lengths[self.rows], self.max_tokens - SPECIALS).mean())
        self.head, self.head_is_fresh = masked_language_head(checkpoint, seed)
        self.score = ScoreHead(checkpoint.encoder.config, torch.Generator().manual_seed(seed))

    def lengths(self) -> np.ndarray:
        """`int64[N]` tokens of each passage with two sets of mean length, each word counted as one piece."""
        sets = np.full(len(self.rows), round(self.config.set_length))
        return 2 * joined_lengths(sets, self.data.passages.lengths[self.rows], self.max_tokens)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw two sets of words for each passage, hide tokens of the passage, and join them."""
        sequences: list[np.ndarray] = []
        places, targets, differ, tokens = [], [], [], 0
        room = self.max_tokens - SPECIALS
        for row in self.rows[np.asarray(examples, dtype=np.int64)]:
            passage = self.data.passages[row].astype(np.int64)
            sets = self.draw_sets(passage, rng)
            pair = [words[: room // 2] for words in (sets.likelier, sets.other)]
            passage = passage[: room - max(map(len, pair))]
            masked = self.masking(passage, np.array([len(passage)]), rng.random((len(passage), 3)), self.progress)
            for words in pair:
                sequences.append(join(words, masked.ids, self.tokenizer, self.max_tokens))
                places.append(tokens + len(words) + 2 + masked.places)
                targets.append(masked.targets)
                tokens += len(sequences[-1])
            differ.append(sets.differ)
        hidden = (torch.from_numpy(np.concatenate(found)) for found in (places, targets))
        inputs = PropInputs(MaskedInputs(pack(sequences), *hidden), torch.tensor(differ, dtype=torch.float32))
        return Batch(np.array([len(sequence) for sequence in sequences]), inputs)

    def draw_sets(self, passage: np.ndarray, rng: np.random.Generator) -> WordSets:
        """Two sets of as many words, drawn from the smoothed word distribution of a passage (int64 ids)."""
        masking, words = self.masking, self.words
        starts, keys = word_keys(passage, np.zeros_like(passage), masking.is_word_start, masking.is_ordinary)
        stops = np.append(starts[1:], len(passage))
        kept = masking.is_ordinary[passage[starts]] & ~words.is_common(keys)
        starts, stops, keys = starts[kept], stops[kept], keys[kept]
        shape = (2, max(1, int(rng.poisson(self.config.set_length))))
        source, which = rng.random((2, *shape))
        if words.total == 0:
            return WordSets(passage[:0], passage[:0], False)
        own = source < len(keys) / (len(keys) + self.smoothing)
        number = np.where(own, (which * len(keys)).astype(np.int64), words.drawn(which))
        drawn = words.keys[np.where(own, 0, number)]
        drawn[own] = keys[number[own]]
        first, second = words.log_likelihood(drawn, keys, self.smoothing)
        likelier, other = (
            np.concatenate(
                [
                    passage[starts[n] : stops[n]] if is_own else word_at(self.data.passages, words.examples[n])
                    for n, is_own in zip(number[i], own[i], strict=True)
                ]
            )
            for i in ((0, 1) if first >= second else (1, 0))
        )
        return WordSets(likelier, other, bool(len(keys) and abs(first - second) > TIE))

    def loss(self, encoder: Encoder, batch: Batch) -> Loss:
        """The hinge between the scores of a passage's two sets, and the cross-entropy of the hidden tokens."""
        inputs: PropInputs = batch.inputs
        packed = inputs.joined.packed.to(next(encoder.parameters()).device)
        hidden = encoder(packed)
        likelier, other = self.score(hidden, packed).view(-1, 2).unbind(dim=1)
        differ = inputs.differ.to(hidden.device)
        size = len(differ)
        words = (F.relu(self.config.margin - likelier + other) * differ).sum() / size
        language = named_tokens_loss(encoder, self.head, hidden, inputs.joined.places, inputs.joined.targets)
        expected = 2 * self.masking.rate(self.progress) * self.mean_tokens * size
        language = language * (len(inputs.joined.targets) / expected)
        right = float(((likelier > other) * differ).sum().detach() / differ.sum().clamp(min=1))
        parts = {"words": float(words.detach()), "language": float(language.detach()), "accuracy": right}
        return Loss(words + language, float(size), parts)

    def flops(self, encoder: Encoder, batch: Batch) -> float:
        """The encoder's, the masked-language head's on the hidden tokens, and the score's."""
        score = 3 * 2.0 * encoder.config.hidden_size * len(batch.lengths)
        return super().flops(encoder, batch) + head_flops(encoder, len(batch.inputs.joined.targets)) + score
