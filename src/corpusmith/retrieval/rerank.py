"""Scores of (query, passage) pairs from a cross-encoder: the second look at what a ranking brought up.

Reading a passage together with the query costs a whole forward pass for each pair, so it is for the few dozen best of
a first ranking. Pairs are sorted by length and laid end to end in batches of a fixed number of tokens; each text is
tokenised once, however many pairs it is in. Norms and the score are computed in float32, products in what the encoder
computes in.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from corpusmith.errors import ModelError
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.cross_encoder import ScoreHead, join
from corpusmith.model.packed import pack
from corpusmith.training.batches import cut

BATCH_TOKENS = 8_192
"""Tokens that are scored at a time."""

KINDS = ("reranking", "prop")
"""Objectives that leave a score beside the model, the better ones first."""


class Reranker:
    """Scores how well passages answer queries. Encoder and head are copied: training them further changes no scores.

    Args:
        checkpoint: encoder, tokenizer and the most tokens that a pair may have (the passage is cut).
        head: the score, None for what training left beside the model.
        dtype: what the encoder computes in.
        batch_tokens: tokens scored at a time.

    Raises:
        ModelError: `head` is None and training left none beside the model.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        head: ScoreHead | None = None,
        dtype: torch.dtype = torch.float32,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        self._device = next(checkpoint.encoder.parameters()).device
        self._head = copy.deepcopy(head or load_score_head(checkpoint)).to(self._device)
        self.batch_tokens = batch_tokens
        self._encoder = checkpoint.encoder.for_inference(dtype)
        self._tokenizer = checkpoint.tokenizer
        self._max_tokens = checkpoint.max_tokens

    @torch.inference_mode()
    def score(self, queries: Sequence[str], passages: Sequence[str]) -> np.ndarray:
        """float32 `[N]`, the score of each of N queries with its passage; only scores of one query compare.

        Raises:
            ValueError: there are not as many passages as queries.
        """
        if len(queries) != len(passages):
            raise ValueError(f"{len(queries)} queries and {len(passages)} passages; each query has its own passage")
        ids = self._encoded([*queries, *passages])
        pairs = zip(queries, passages, strict=True)
        sequences = [join(ids[query], ids[text], self._tokenizer, self._max_tokens) for query, text in pairs]
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        scores = np.empty(len(sequences), dtype=np.float32)
        for part in cut(np.argsort(-lengths, kind="stable"), lengths, self.batch_tokens):
            packed = pack([sequences[place] for place in part]).to(self._device)
            scores[part] = self._head(self._encoder(packed), packed).cpu().numpy()
        return scores

    def rank(self, query: str, passages: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The places of the passages, best first and equal scores in the order given, and their scores."""
        scores = self.score([query] * len(passages), passages)
        order = np.argsort(-scores, kind="stable")
        return order, scores[order]

    def _encoded(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        unique = list(dict.fromkeys(texts))
        encodable = [text.encode("utf-8", "replace").decode("utf-8") for text in unique]
        return dict(zip(unique, self._tokenizer.encode(encodable), strict=True))


def load_score_head(checkpoint: Checkpoint) -> ScoreHead:
    """The head that training left beside the model.

    Raises:
        ModelError: there is none, or it is damaged or of another size.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = next((checkpoint.parts[kind] for kind in KINDS if kind in checkpoint.parts), None)
    if path is None:
        raise ModelError(
            f"{checkpoint.name} has nothing to score pairs with; train it with the objective reranking first."
        )
    head = ScoreHead(checkpoint.encoder.config, torch.Generator().manual_seed(0))
    try:
        tensors = load_file(path)
        head.load_state_dict({name.removeprefix("score."): tensor for name, tensor in tensors.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path} is damaged or of another model ({error}); train the model again.") from error
    return head
