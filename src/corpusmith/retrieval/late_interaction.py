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

from collections.abc import Callable, Sequence

import numpy as np
import torch

from corpusmith.retrieval.base import PADDING
from corpusmith.retrieval.dense import DenseRetriever

PASSAGES_AT_ONCE = 512
"""Passages that are read, tokenised and sorted by length together."""


class LateInteraction:
    """Scores passages for queries by their tokens' states.

    Args:
        retriever: its model gives the states.
        contents: the texts of passages, by their rows `int64[N]`.
    """

    def __init__(self, retriever: DenseRetriever, contents: Callable[[np.ndarray], Sequence[str]]) -> None:
        self._retriever, self._contents = retriever, contents

    @torch.inference_mode()
    def scores(self, queries: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """`[Q, K]` float32: the mean, over the query's tokens, of the highest cosine with a token of the passage.

        `rows[Q, K]` are the passages to score for each query, `PADDING` where there is none. That, a query without
        tokens and a passage without tokens get 0.
        """
        scores = np.zeros(rows.shape, dtype=np.float32)
        asked = {number: _unit(states) for number, states in self._retriever.query_states(queries)}
        places = np.argsort(rows, axis=None, kind="stable")
        wanted, starts = np.unique(rows.ravel()[places], return_index=True)
        parts = np.split(places, starts[1:])  # one empty part where nothing is wanted
        places_of = dict(zip(wanted.tolist(), parts, strict=False))
        passages = wanted[wanted != PADDING]
        for start in range(0, len(passages), PASSAGES_AT_ONCE):
            block = passages[start : start + PASSAGES_AT_ONCE]
            for number, states in self._retriever.document_states(self._contents(block)):
                passage = _unit(states)
                for place in places_of[int(block[number])].tolist():
                    query = asked[place // rows.shape[1]]
                    if len(query) and len(passage):
                        scores.flat[place] = float((query @ passage.T).amax(dim=1).mean())
        return scores


def _unit(states: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(states, dim=-1)
