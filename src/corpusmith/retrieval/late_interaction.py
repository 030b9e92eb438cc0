"""Late interaction: every token of a query looks for the token of a passage that is most like it.

MaxSim of ColBERT (Khattab and Zaharia 2020, "ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT", section 3.3): a passage's score is, over the query's tokens, the sum of the highest cosine with
any of the passage's. ColBERT trains an encoder for it and keeps a vector of every token. Here the states of an encoder
made for single vectors are compared as they are, which puts the first results into a better order all the same
(docs/lab-notes.md), and passages are encoded when they are asked for: nothing is stored, and a query costs as much as
encoding the passages that are looked at. The mean takes the sum's place, so that scores do not depend on the query's
length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch

from corpusmith.model.arithmetic import DTYPES, fastest_precision
from corpusmith.model.checkpoint import Checkpoint
from corpusmith.model.encoder import Encoder
from corpusmith.retrieval.base import PADDING
from corpusmith.retrieval.dense import document_prompt, query_prompt, token_states, tokenised

PASSAGES_AT_ONCE = 512
"""Passages that are read, tokenised and sorted by length together."""


class LateInteraction:
    """Scores passages for queries by their tokens' states.

    Args:
        load: gives the model; called when the first passages are scored.
        contents: the texts of passages, by their rows `int64[N]`.
    """

    def __init__(self, load: Callable[[], Checkpoint], contents: Callable[[np.ndarray], Sequence[str]]) -> None:
        self._load, self._contents = load, contents

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return self._load()

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = self._checkpoint.encoder
        return encoder.for_inference(DTYPES[fastest_precision(encoder.token_embedding.weight.device)])

    @torch.inference_mode()
    def scores(self, queries: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """`[Q, K]` float32: the mean, over the query's tokens, of the highest cosine with a token of the passage.

        `rows[Q, K]` are the passages to score for each query, `PADDING` where there is none. That, a query without
        tokens and a passage without tokens get 0.
        """
        scores = np.zeros(rows.shape, dtype=np.float32)
        asked = dict(self._states(queries, query_prompt(self._checkpoint)))
        places = np.argsort(rows, axis=None, kind="stable")
        wanted, starts = np.unique(rows.ravel()[places], return_index=True)
        parts = np.split(places, starts[1:])  # one empty part where nothing is wanted
        places_of = dict(zip(wanted.tolist(), parts, strict=False))
        passages = wanted[wanted != PADDING]
        for start in range(0, len(passages), PASSAGES_AT_ONCE):
            block = passages[start : start + PASSAGES_AT_ONCE]
            for number, states in self._states(self._contents(block), document_prompt(self._checkpoint)):
                for place in places_of[int(block[number])].tolist():
                    query = asked[place // rows.shape[1]]
                    if len(query) and len(states):
                        scores.flat[place] = float((query @ states.T).amax(dim=1).mean())
        return scores

    def _states(self, texts: Sequence[str], prompt: str) -> Iterator[tuple[int, torch.Tensor]]:
        """Number and `[T, D]` float32 states of length 1 of each text, special tokens left out, longest texts first."""
        tokenizer, limit = self._checkpoint.tokenizer, self._checkpoint.max_tokens
        sequences = [tokenizer.with_specials(ids, limit) for ids in tokenised(tokenizer, texts, prompt)]
        for number, states in token_states(self._encoder, sequences):
            yield number, torch.nn.functional.normalize(states, dim=-1)
