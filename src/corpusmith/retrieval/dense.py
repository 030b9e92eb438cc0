"""Texts to vectors, packed: no token is spent on padding.

Texts are tokenised a window ahead of the model by a second thread, sorted by length within the window and laid end
to end in batches of a fixed number of tokens, so that every batch costs the same and attention sees neighbours of
equal length. Where bf16 is the faster (measured, `model/arithmetic.py`) the encoder computes in it, at a cosine of
0.9999 to its float32 vectors; pooling and normalising are float32 always.

What computes is a `Backend`, from sequences of token ids to vectors; everything around it is the same for all. A
text's vector does not depend on what it shares a batch with, beyond the rounding of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from corpusmith import environment
from corpusmith.corpus.shards import TokenShards
from corpusmith.errors import ModelError
from corpusmith.model.arithmetic import DTYPES, fastest_precision, match_cores
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.encoder import Encoder
from corpusmith.model.packed import pack
from corpusmith.model.pooling import pool
from corpusmith.retrieval.base import Progress
from corpusmith.vocabulary.tokenizer import Tokenizer

WINDOW = 8_192
"""Texts tokenised and sorted together."""
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
BATCH_TOKENS = {"cpu": 8_192, "cuda": 65_536}


class Backend(Protocol):
    """Computes vectors of token sequences; `batch_tokens` is what it likes to be given at a time, `arithmetic` names
    what decides the bits of the result, `encoder` gives the states of single tokens."""

    batch_tokens: int
    arithmetic: str
    encoder: Encoder

    def encode(self, sequences: list[np.ndarray]) -> np.ndarray:
        """float32 `[B, D]`, length 1, of B sequences of ids, special tokens included; the longest come first."""
        ...


class PackedBackend:
    """The encoder itself, on packed batches. Its weights are copied: training it further changes no vectors.

    Args:
        checkpoint: encoder and pooling.
        dtype: what the encoder computes in; None takes bf16 where it is the faster, else float32.
        int8: whether its linear maps are quantised (`model.quantised.is_available` says where they can be).
    """

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype | None = None, int8: bool = False) -> None:
        environment.bound_kernel_cache()
        match_cores()
        self.device = next(checkpoint.encoder.parameters()).device
        self.batch_tokens = BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cpu"])
        self.dtype = dtype or DTYPES[fastest_precision(self.device)]
        self.arithmetic = f"{'int8, ' if int8 else ''}{self.dtype}"
        self.encoder = checkpoint.encoder.for_inference(self.dtype, int8)
        self._pooling, self._dimension = checkpoint.pooling, checkpoint.dimension

    @torch.inference_mode()
    def encode(self, sequences: list[np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        packed = pack(sequences).to(self.device)
        pooled = pool(self.encoder(packed), packed, self._pooling)[:, : self._dimension]
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()


class DenseRetriever:
    """Encodes queries and documents with one encoder, as L2-normalised float32 vectors.

    Both are encoded alike, except that a checkpoint may name prompts to put before them ("query", and "document",
    "passage" or "corpus", as sentence-transformers looks them up).

    Args:
        checkpoint: encoder, tokenizer, pooling and the most tokens a text may have (what is longer is cut).
        backend: what computes, made from the same checkpoint; None takes a `PackedBackend`.
        batch_tokens: tokens of a batch; None takes what the backend likes best.
    """

    def __init__(self, checkpoint: Checkpoint, backend: Backend | None = None, batch_tokens: int | None = None) -> None:
        self.backend = backend or PackedBackend(checkpoint)
        self.batch_tokens = batch_tokens or self.backend.batch_tokens
        self._dimension = checkpoint.dimension
        self._name = checkpoint.name
        self._tokenizer = checkpoint.tokenizer
        self._max_tokens = checkpoint.max_tokens
        self._query_prompt, self._document_prompt = query_prompt(checkpoint), document_prompt(checkpoint)

    @property
    def dimension(self) -> int:
        """D, the width of the vectors."""
        return self._dimension

    def encode(self, texts: Sequence[str], progress: Progress | None = None, prompt: str = "") -> np.ndarray:
        """`[N, D]` float32 vectors in the order of the texts, `prompt` put before each.

        An empty text gets the vector of no words; lone surrogates (bytes that a terminal could not decode) are read
        as question marks.
        """

        def tokens_of(start: int, stop: int) -> list[np.ndarray]:
            return tokenised(self._tokenizer, texts[start:stop], prompt)

        return self._encode_windows(len(texts), tokens_of, progress=progress)

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """`[N, D]` vectors of queries."""
        return self.encode(texts, progress, self._query_prompt)

    def encode_documents(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """`[N, D]` vectors of documents or passages."""
        return self.encode(texts, progress, self._document_prompt)

    def query_states(self, texts: Sequence[str]) -> Iterator[tuple[int, torch.Tensor]]:
        """Number and `[T, D]` float32 states of each query's tokens, special ones left out, longest queries first."""
        return self._states(texts, self._query_prompt)

    def document_states(self, texts: Sequence[str]) -> Iterator[tuple[int, torch.Tensor]]:
        """The same of documents or passages."""
        return self._states(texts, self._document_prompt)

    def _states(self, texts: Sequence[str], prompt: str) -> Iterator[tuple[int, torch.Tensor]]:
        sequences = [
            self._tokenizer.with_specials(ids, self._max_tokens) for ids in tokenised(self._tokenizer, texts, prompt)
        ]
        return token_states(self.backend.encoder, sequences)

    def encode_shards(
        self,
        shards: TokenShards,
        rows: np.ndarray | None = None,
        out: np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """`[N, D]` vectors of the tokenised documents or passages at `rows` (all, if None).

        `out` is filled and returned if given, window by window: a mapped array lets any number of passages be
        encoded in the memory of one window.
        """
        rows = np.arange(len(shards)) if rows is None else rows
        prompt = self._tokenizer.encode([self._document_prompt.rstrip()])[0]

        def tokens_of(start: int, stop: int) -> list[np.ndarray]:
            return [np.concatenate([prompt, shards[row]]) for row in rows[start:stop]]

        return self._encode_windows(len(rows), tokens_of, out=out, progress=progress)

    def _encode_windows(
        self,
        total: int,
        tokens_of: Callable[[int, int], list[np.ndarray]],
        out: np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Encode `total` texts, whose tokens (without specials) `tokens_of(start, stop)` gives."""
        vectors = np.empty((total, self.dimension), dtype=np.float32) if out is None else out
        if vectors.shape != (total, self.dimension):
            raise ValueError(f"out has shape {vectors.shape}, expected {(total, self.dimension)}")
        for start, window in _ahead(total, tokens_of):
            done = start
            sequences = [self._tokenizer.with_specials(ids, self._max_tokens) for ids in window]
            for places, batch in by_length(sequences, self.batch_tokens):
                encoded = self.backend.encode(batch)
                if not np.isfinite(encoded).all():
                    raise ModelError(
                        f"the model {self._name} gives vectors that are no numbers: its weights are damaged, or not "
                        "those that its config.json describes; copy its files again"
                    )
                vectors[start + places] = encoded
                environment.make_room()
                done += len(places)
                if progress is not None:
                    progress(done, total)
        return vectors


def query_prompt(checkpoint: Checkpoint) -> str:
    """What a model wants before every query, often nothing."""
    return checkpoint.prompts.get("query", "")


def document_prompt(checkpoint: Checkpoint) -> str:
    """What a model wants before every document, often nothing."""
    named = (checkpoint.prompts.get(name) for name in DOCUMENT_PROMPTS)
    return next((prompt for prompt in named if prompt), "")


def tokenised(tokenizer: Tokenizer, texts: Sequence[str], prompt: str = "") -> list[np.ndarray]:
    """Token ids of each text with the prompt before it, without special tokens; lone surrogates are read as question
    marks."""
    encodable = (text.encode("utf-8", "replace").decode("utf-8") for text in texts)
    return tokenizer.encode([prompt + text for text in encodable])


def by_length(sequences: list[np.ndarray], batch_tokens: int) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Batches of some `batch_tokens` tokens, with the sequences' numbers; the longest come first, since what does not
    fit shall fail early."""
    if not sequences:
        return
    lengths = np.array([len(ids) for ids in sequences])
    order = np.argsort(-lengths, kind="stable")
    batch_of = (np.cumsum(lengths[order]) - 1) // batch_tokens
    for places in np.split(order, np.flatnonzero(np.diff(batch_of)) + 1):
        yield places, [sequences[place] for place in places]


def token_states(encoder: Encoder, sequences: list[np.ndarray]) -> Iterator[tuple[int, torch.Tensor]]:
    """Number and last states, `[T, D]` float32, of each sequence, those of the first and the last token left out; the
    longest come first."""
    device = encoder.token_embedding.weight.device
    for numbers, batch in by_length(sequences, BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"])):
        packed = pack(batch)
        states = encoder(packed.to(device)).float().split(packed.lengths.tolist())
        for number, of_sequence in zip(numbers.tolist(), states, strict=True):
            yield number, of_sequence[1:-1]
        environment.make_room()


def _ahead(total: int, tokens_of: Callable[[int, int], list[np.ndarray]]) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Windows of tokens with their starts; the next one is made while the model is busy with this one."""
    starts = range(0, total, WINDOW)
    with ThreadPoolExecutor(max_workers=1) as executor:
        pending = [executor.submit(tokens_of, start, min(start + WINDOW, total)) for start in starts[:1]]
        for start in starts:
            window = pending.pop().result()
            following = start + WINDOW
            if following < total:
                pending.append(executor.submit(tokens_of, following, min(following + WINDOW, total)))
            yield start, window
