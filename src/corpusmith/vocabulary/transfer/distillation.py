"""Contextual distillation: the model is to read a new piece, where it occurs, as it read its old pieces.

    h  = encoder( [cls] left s_1 ... s_n right [sep] )          as the old tokenizer cuts an occurrence of piece t
    h' = encoder( [cls] left   e'_t     right [sep] )           one vector in place of e_s1 ... e_sn
    L  = mean over the places of h' of | h' - g |^2 / D         g: h at the same place, the mean of h_s1 ... h_sn at t's

The new vectors `e'[V', D]` are all that is learned, from the mean of a piece's old vectors on, by a bounded number of
steps over a bounded number of occurrences. What a word's pieces mean together is seen in the states of the layers and
not in the pieces' vectors, which have no context: this brings it back into the one vector that stands for them. Pieces
that both vocabularies have keep their vectors.

Where we depart from the paper or it is silent:
- The paper takes contextual states, averaged over a piece's occurrences, as the vector itself. States of an upper layer
  do not lie where the lowest one expects its input, so here that vector is sought whose states are the same ones, as in
  Dobler, Elliott and de Melo's token distillation. Several occurrences average out in the loss.
- All layers' work is in the last states, and only they are compared: at the piece and at its context.
- An occurrence counts where both tokenizers put a border at both its ends. Pieces without one, and those that the steps
  do not reach, keep the mean of their old pieces.
- Step sizes follow the spread of the old vectors: one value serves models of any scale.

Example:
    >>> carried = carry(checkpoint, target, build_transfer(DistillationConfig()), texts, np.random.default_rng(0))

Citation: Pavlova, Makhlouf (2023), "BIOptimus: Pre-training an Optimal Biomedical Language Model with Curriculum
Learning for Named Entity Recognition", BioNLP, section 3; Dobler, Elliott, de Melo (2025), "Token Distillation:
Attention-aware Input Embeddings for New Tokens".
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tokenizers
import torch
from torch import nn
from torch.nn import functional as F

from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.vocabulary.tokenizer import Tokenizer
from corpusmith.vocabulary.transfer.base import EmbeddingTransfer, TransferInput
from corpusmith.vocabulary.transfer.config import DistillationConfig, SubwordConfig
from corpusmith.vocabulary.transfer.correspondence import matching_pieces
from corpusmith.vocabulary.transfer.subword import SubwordMean

MOST_READ = 2**21
"""Tokens among which occurrences are looked for."""

TEXTS_AT_ONCE = 256
"""Texts cut at a time."""

ITS_OWN_TOKENS = 3
"""Of an occurrence, beside its context: the new piece, and those that open and close the sequence."""

BETAS = (0.9, 0.99)
"""Adam's: a vector is touched a few dozen times, and its first step must not be larger than the others."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Ids of the old tokenizer: those of a new piece, and those on its left and right; `piece` is its new id."""

    piece: int
    left: np.ndarray
    own: np.ndarray
    right: np.ndarray


class Distillation(EmbeddingTransfer):
    """Vectors whose states are those of the old pieces; see the module's text."""

    def __init__(self, config: DistillationConfig) -> None:
        self.config = config
        self.learning_tokens = config.steps * config.batch * (2 * config.context + ITS_OWN_TOKENS)

    def embed(self, given: TransferInput) -> np.ndarray:
        """The means of old pieces, improved where new ones occur, and copies of what is shared."""
        vectors = SubwordMean(SubwordConfig()).embed(given)
        is_new = matching_pieces(given.source.tokenizer, given.target) < 0
        is_new[given.target.special_ids] = False
        found = list(self._occurrences(given, is_new))
        if found:
            pieces = np.unique([occurrence.piece for occurrence in found])
            vectors[pieces] = self._distilled(given, vectors[pieces], pieces, found)
        return vectors

    def _occurrences(self, given: TransferInput, is_new: np.ndarray) -> Iterator[Occurrence]:
        """Some occurrences of each new piece, at most as many as the steps can use."""
        config, wanted = self.config, self.config.steps * self.config.batch
        counts = np.zeros(given.target.size, dtype=np.int64)
        longest = given.source.encoder.config.max_tokens - 2
        for piece, own, ids in aligned(given, is_new):
            room = (longest - (own.stop - own.start)) // 2
            if counts[piece] < config.occurrences and room >= 0:
                width = min(config.context, room)
                left, right = ids[max(0, own.start - width) : own.start], ids[own.stop : own.stop + width]
                yield Occurrence(piece, left, ids[own], right)
                counts[piece] += 1
                if counts.sum() == wanted:
                    return

    def _distilled(
        self, given: TransferInput, start: np.ndarray, pieces: np.ndarray, found: Sequence[Occurrence]
    ) -> np.ndarray:
        """`float32[n, D]`, the vectors of `pieces[n]` after the last step."""
        teacher, tokenizer = given.source.encoder, given.source.tokenizer
        old = teacher.token_embedding.weight.detach()
        student = copy.deepcopy(teacher).requires_grad_(False)
        learned = nn.Embedding.from_pretrained(torch.from_numpy(start).to(old), freeze=False, sparse=True)
        student.embeddings.tokens = _OldAndNew(old, learned)  # type: ignore[assignment]  # what the encoder asks of it
        rate = self.config.learning_rate * float(old.std())
        optimiser = torch.optim.SparseAdam(learned.parameters(), lr=rate, betas=BETAS)
        numbers = {piece: len(old) + i for i, piece in enumerate(pieces.tolist())}
        batches = endless_batches(len(found), self.config.batch, given.rng)
        self.flops = 0.0
        for step in range(self.config.steps):
            batch = [found[i] for i in next(batches)]
            for group in optimiser.param_groups:
                group["lr"] = rate * (1 - step / self.config.steps)
            optimiser.zero_grad()
            short = np.array([len(one.left) + 1 + len(one.right) + 2 for one in batch])
            long = short + np.array([len(one.own) - 1 for one in batch])
            self.flops += teacher.flops(torch.from_numpy(long)) + 2 * teacher.flops(torch.from_numpy(short))
            distance(teacher, student, tokenizer, batch, numbers).backward()
            optimiser.step()
        return learned.weight.detach().cpu().numpy()


class _OldAndNew(nn.Module):
    """An embedding of old vectors, which are fixed, and new ones behind them."""

    def __init__(self, old: torch.Tensor, new: nn.Embedding) -> None:
        super().__init__()
        self.old, self.new = old, new

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """`[T]` to `[T, D]`."""
        is_new = ids >= len(self.old)
        vectors = F.embedding(ids.masked_fill(is_new, 0), self.old)
        vectors[is_new] = self.new(ids[is_new] - len(self.old))
        return vectors


def distance(
    teacher: Encoder, student: Encoder, tokenizer: Tokenizer, batch: Sequence[Occurrence], numbers: dict[int, int]
) -> torch.Tensor:
    """The loss L of the module's text over a batch of occurrences.

    Args:
        teacher: reads old pieces.
        student: reads new ones.
        tokenizer: of the teacher.
        batch: occurrences.
        numbers: the student's ids of new pieces.
    """
    device = teacher.token_embedding.weight.device
    read = pack([_sequence(tokenizer, one.left, one.own, one.right) for one in batch]).to(device)
    short = pack([_sequence(tokenizer, one.left, [numbers[one.piece]], one.right) for one in batch]).to(device)
    # The place in `short` of each token of `read`: all of an occurrence's own have one, those behind move up.
    own = np.concatenate(
        [np.repeat([1, 0, 1], [1 + len(one.left) + 1, len(one.own) - 1, len(one.right) + 1]) for one in batch]
    )
    places = torch.from_numpy(np.cumsum(own) - 1).to(device)
    with torch.no_grad():
        states = teacher(read).float()
        sums = torch.zeros(len(short.ids), states.shape[1], device=device).index_add(0, places, states)
        wanted = sums / torch.bincount(places)[:, None]
    return F.mse_loss(student(short).float(), wanted)


def _sequence(tokenizer: Tokenizer, left: np.ndarray, own: Sequence[int] | np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([[tokenizer.cls], left, own, right, [tokenizer.sep]]).astype(np.int64)


def endless_batches(count: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Numbers below `count` in random order, `size` at a time, without end; each once before any comes again."""
    while True:
        order = rng.permutation(count)
        yield from np.split(order, range(size, count, size))


def aligned(given: TransferInput, wanted: np.ndarray) -> Iterator[tuple[int, slice, np.ndarray]]:
    """Where the target's `wanted` pieces (`bool[V']`) occur with a border of the source's pieces at both ends, texts in
    random order.

    Yields:
        The piece's id, the place of its old pieces among its text's, and the ids of these (`int64[n]`).
    """
    order, read = given.rng.permutation(len(given.texts)), 0
    for start in range(0, len(order), TEXTS_AT_ONCE):
        texts = [given.texts[i] for i in order[start : start + TEXTS_AT_ONCE]]
        new, old = (_encodings(tokenizer, texts) for tokenizer in (given.target, given.source.tokenizer))
        for text, one, other in zip(texts, new, old, strict=True):
            yield from _aligned(_spans(text, one), _spans(text, other), wanted, given.source.tokenizer.unk)
            read += len(one)
        if read >= MOST_READ:
            return


class _Spans(NamedTuple):
    """`int64[n]` each: ids, and where their letters start and end in the text, without a space before them."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def _encodings(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tokenizers.Encoding]:
    return tokenizer.backend.encode_batch(texts, add_special_tokens=False)


def _spans(text: str, encoding: tokenizers.Encoding) -> _Spans:
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    is_space = np.array([*(letter.isspace() for letter in text), False])
    starts, ends = offsets[:, 0], offsets[:, 1]
    return _Spans(np.array(encoding.ids, dtype=np.int64), starts + (is_space[starts] & (starts < ends)), ends)


def _aligned(
    new: _Spans, old: _Spans, wanted: np.ndarray, unknown: int | None
) -> Iterator[tuple[int, slice, np.ndarray]]:
    first = {start: i for i, start in reversed(list(enumerate(old.starts.tolist())))}
    last = {end: i for i, end in enumerate(old.ends.tolist())}
    for place in np.flatnonzero(wanted[new.ids]).tolist():
        begin, end = first.get(int(new.starts[place])), last.get(int(new.ends[place]))
        if begin is not None and end is not None and begin <= end and unknown not in old.ids[begin : end + 1]:
            yield int(new.ids[place]), slice(begin, end + 1), old.ids
