"""Inverse cloze and its kin: a sentence must find the text that it belongs to.

Three kinds of pairs are made from passages, their documents and the links between these, in the shares asked for:

- ICT: a sentence of a passage, and the rest of that passage. With probability `keep_rate` the sentence stays in the
  passage as well, so that the model does not unlearn to match words.
- BFS (body first selection): a sentence of a document's first passage, and another passage of the document.
- WLP (wiki link prediction): a sentence of a document's first passage, and a passage of a document that links to it.

    L = - 1/B sum_i log [ exp s(q_i, d_i) / sum_{d in C_i} exp s(q_i, d) ],      s, C_i as in `info_nce`

| input            | shape   | what it is                                               |
|------------------|---------|----------------------------------------------------------|
| `data.passages`  | N texts | token shards                                             |
| `data.rows`      | [n]     | those that may be trained on                             |
| `data.documents` | [N]     | each passage's document                                  |
| `data.links`     | [L, 2]  | documents (from, to); needed where `wlp_share` is above 0 |

An example is a passage (ICT), a document (BFS) or a link (WLP); which sentence and which passage is drawn anew each
time. The batch is never cut into micro-batches, since every passage is every query's negative. Nothing is dropped after
training: there are no parameters beside the encoder's.

Where we depart from the papers or they are silent:
- One encoder serves queries and passages, because one model searches; the papers have two.
- A sentence is what lies between two tokens that end sentences, taken together with the next where it is short and cut
  where it is long; a passage of a single sentence gives a random half of itself.
- A sentence is not taken from the title and heading that its passage shares with a neighbour.
- Passages of the document of d_i, or of q_i, are no negatives. The sampled softmax is the one over the batch.
- In an epoch each passage, document and link comes at least once; the kinds of which there are fewer are repeated, at
  most so far that the epoch has REPEATS times as many examples as there are passages, documents and links.

Example:
    >>> objective = build_objective(ICTConfig(ict_share=0.5, bfs_share=0.5), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Relations: `contrastive` trains on pairs that are made beforehand from text, sentences and their rest among them, with
mined negatives and a teacher; Contriever crops twice instead of cutting out.

Citation: Lee, Chang, Toutanova (2019), "Latent Retrieval for Weakly Supervised Open Domain Question Answering", ACL,
section 4 (ICT); Chang, Yu, Chang, Yang, Kumar (2020), "Pre-training Tasks for Embedding-based Large-scale Retrieval",
ICLR, section 3.1 (BFS, WLP).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from corpusmith.errors import CorpusError
from corpusmith.objective.base import Batch
from corpusmith.objective.config import ICTConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.info_nce import InfoNCEObjective, excluded_candidates
from corpusmith.objective.spans import SentenceSpans, headings

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint

REPEATS = 8
"""Examples of an epoch, at most, as a multiple of the passages, documents and links that there are."""


class InverseCloze(InfoNCEObjective):
    """ICT, BFS and WLP; see the module's text.

    Attributes:
        rows: `int64[n]`, ascending, the passages used.
        examples: `int64[E, 3]`: places in `rows` of the passage that the sentence is from, and of the first one and
            the one behind the last of those from which the positive is drawn.

    Raises:
        CorpusError: a share is asked for that the corpus cannot give.
    """

    config: ICTConfig

    def __init__(self, config: ICTConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.config = config
        self.rows = np.sort(data.rows[data.passages.lengths[data.rows] >= 2])
        self.headings = headings(data.passages, data.documents, self.rows)
        self.sentences = SentenceSpans(self.tokenizer, config.shortest_query, config.longest_query)
        found = {
            "ict_share": (self._passages, "passages of at least two tokens; add documents"),
            "bfs_share": (self._documents, "documents with several passages; add longer documents or set it to 0"),
            "wlp_share": (self._links, "links between the documents; add linked documents or set it to 0"),
        }
        kinds, shares = [], []
        for name, (examples_of, lacking) in found.items():
            if share := getattr(config, name):
                kinds.append(examples_of())
                shares.append(share)
                if len(kinds[-1]) == 0:
                    raise CorpusError(f"{name} = {share:g}, and the corpus has no {lacking}.")
        rng = np.random.default_rng([seed, 0x1C7])
        self.examples = _in_shares(kinds, np.array(shares) / sum(shares), rng)
        sources = self.examples[:, 0]
        rows, begins = self.rows[sources], self.headings[sources]
        self.query_tokens = self.sentences.mean_length(data.passages, rows, begins, rng)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Documents that have passages here, ascending, and the places in `rows` where each begins and ends."""
        documents, first, count = np.unique(self.data.documents[self.rows], return_index=True, return_counts=True)
        return documents, first, first + count

    def _passages(self) -> np.ndarray:
        places = np.arange(len(self.rows))
        return np.column_stack([places, places, places + 1])

    def _documents(self) -> np.ndarray:
        _, first, stop = self._bounds()
        return np.column_stack([first, first + 1, stop])[stop - first > 1]

    def _links(self) -> np.ndarray:
        documents, first, stop = self._bounds()
        links = np.zeros((0, 2), dtype=np.int64) if self.data.links is None else self.data.links
        links = links[np.isin(links, documents).all(axis=1) & (links[:, 0] != links[:, 1])]
        linking, linked = np.searchsorted(documents, links).T
        return np.column_stack([first[linked], first[linking], stop[linking]])

    def lengths(self) -> np.ndarray:
        """`int64[E]` tokens of query and positive: the query at its mean length, and the positive at that of the
        passages from which it is drawn."""
        source, first, stop = self.examples.T
        ends = np.concatenate([[0], np.cumsum(self.clipped(self.data.passages.lengths[self.rows]))])
        positives = (ends[stop] - ends[first]) / (stop - first)
        positives -= np.where(source == first, (1 - self.config.keep_rate) * self.query_tokens, 0)
        return np.ceil(np.maximum(positives, 3) + min(self.query_tokens + 2, self.max_tokens)).astype(np.int64)

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw sentences and positives."""
        chosen = self.examples[np.asarray(examples, dtype=np.int64)]
        places = rng.integers(chosen[:, 1], chosen[:, 2])
        queries, positives = [], []
        for source, place in zip(chosen[:, 0], places, strict=True):
            ids, begin = self.data.passages[self.rows[source]], int(self.headings[source])
            query, rest = self.sentences.cut(ids, begin, self.config.keep_rate, rng)
            queries.append(query)
            positives.append(rest if source == place else self.data.passages[self.rows[place]])
        documents, own = (self.data.documents[self.rows[which]] for which in (places, chosen[:, 0]))
        return self.batch_of(queries, positives, excluded_candidates(positives, documents, len(chosen), own))


def _in_shares(kinds: Sequence[np.ndarray], shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of all kinds, each kind's number in proportion to its share; see the module's text."""
    sizes = np.array([len(kind) for kind in kinds])
    total = min(float((sizes / shares).max()), float(REPEATS * sizes.sum()))
    counts = np.maximum(1, np.round(total * shares).astype(np.int64))
    return np.concatenate([np.resize(rng.permutation(kind), (n, 3)) for kind, n in zip(kinds, counts, strict=True)])
