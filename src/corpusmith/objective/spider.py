"""Spider: what stands around a name in one passage must find another passage in which the name recurs.

A span of a few words that recurs in several passages of a document is something that the document is about. The
query is the text around one of its occurrences, half of the time without the span itself; the positive is another
passage with the span; a passage of the same document without it is a negative:

    L = - 1/B sum_i log [ exp s(q_i, d_i) / sum_{d in C_i} exp s(q_i, d) ],      s as in `info_nce`

where C_i are all positives and negatives of the batch, without those of d_i's document, d_i and the query's own
negative apart. With the span in the query, words that match decide; without it, meaning has to.

| input            | shape   | what it is                               |
|------------------|---------|------------------------------------------|
| `data.passages`  | N texts | token shards                             |
| `data.rows`      | [n]     | those that may be trained on             |
| `data.documents` | [N]     | each passage's document                  |

An example is a recurring span; its occurrence, the text around it, positive and negative are drawn anew each time. The
batch is never cut into micro-batches. Nothing is dropped after training: there are no parameters beside the encoder's.

Where we depart from the paper or it is silent:
- Spans are found as in `recurring`: maximal, and by document frequency free of stop words at both ends rather than by
  a list of stop words. At most `spans_per_document` are drawn from a document, so that long ones do not prevail.
- The text around the span is cut to whole words, and does not reach into the title and heading that its passage shares
  with a neighbour.
- Where every other passage of the document has the span, the query has no negative of its own.
- One encoder serves queries and passages.

Example:
    >>> objective = build_objective(SpiderConfig(), data, checkpoint, seed=0)
    >>> train(checkpoint.encoder, objective, TrainingConfig(), BudgetConfig(minutes=5), folder, seed=0)

Relations: BFS in `ict` also takes the positive from elsewhere in the document, but any passage will do there.

Citation: Ram, Shachaf, Levy, Berant, Globerson (2022), "Learning to Retrieve Passages without Supervision", NAACL,
section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from corpusmith.errors import CorpusError
from corpusmith.objective.base import Batch
from corpusmith.objective.config import SpiderConfig
from corpusmith.objective.data import TrainingData
from corpusmith.objective.info_nce import InfoNCEObjective, excluded_candidates
from corpusmith.objective.recurring import SpanFinder
from corpusmith.objective.spans import headings

if TYPE_CHECKING:
    from corpusmith.model.checkpoint import Checkpoint


class Spider(InfoNCEObjective):
    """Recurring span retrieval; see the module's text.

    Attributes:
        spans: what the examples are.

    Raises:
        CorpusError: no span recurs.
    """

    config: SpiderConfig

    def __init__(self, config: SpiderConfig, data: TrainingData, checkpoint: Checkpoint, seed: int) -> None:
        super().__init__(data, checkpoint)
        self.config = config
        self.rows = np.sort(data.rows)
        self.documents = data.documents[self.rows]
        finder = SpanFinder(
            data.passages,
            data.documents,
            self.tokenizer,
            config.shortest_span,
            config.longest_span,
            config.common_share,
        )
        self.spans = finder.find(self.rows, config.spans_per_document, np.random.default_rng([seed, 0x591DE2]))
        if len(self.spans) == 0:
            raise CorpusError(
                "no span of words recurs in two passages of a document; add documents of several passages, or raise "
                "common_share."
            )

    def lengths(self) -> np.ndarray:
        """`int64[S]` tokens of query, positive and negative: a query of mean length, passages at the mean of those
        with the span and of the document's."""
        config, spans = self.config, self.spans
        lengths = self.clipped(self.data.passages.lengths)
        positives = np.add.reduceat(lengths[spans.rows], spans.offsets[:-1]) / np.diff(spans.offsets)
        first, stop = self._document(self.data.documents[spans.rows[spans.offsets[:-1]]])
        ends = np.concatenate([[0], np.cumsum(lengths[self.rows])])
        negatives = (ends[stop] - ends[first]) / (stop - first)
        query = min((config.shortest_query + config.longest_query) / 2 + 2, self.max_tokens)
        return np.ceil(query + positives + negatives).astype(np.int64)

    def _document(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in `rows` where documents begin and end."""
        return np.searchsorted(self.documents, documents), np.searchsorted(self.documents, documents, side="right")

    def collate(self, examples: Sequence[int] | np.ndarray, rng: np.random.Generator) -> Batch:
        """Draw an occurrence, a positive and a negative for each span."""
        numbers = np.asarray(examples, dtype=np.int64)
        drawn = [self._draw(int(number), rng) for number in numbers]
        occurrences, positives, negatives = (np.array(column) for column in zip(*drawn, strict=True))
        begins = headings(self.data.passages, self.data.documents, self.spans.rows[occurrences])
        queries = [self._query(i, int(begin), rng) for i, begin in zip(occurrences, begins, strict=True)]
        rows = np.concatenate([positives, np.unique(negatives[negatives >= 0])])
        candidates = [self.data.passages[row] for row in rows]
        excluded = excluded_candidates(candidates, self.data.documents[rows], len(numbers))
        owners = np.flatnonzero(negatives >= 0)
        own = len(numbers) + np.searchsorted(rows[len(numbers) :], negatives[owners])
        excluded[owners, own] = False
        return self.batch_of(queries, candidates, excluded)

    def _draw(self, number: int, rng: np.random.Generator) -> tuple[int, int, int]:
        """An occurrence of the span, the row of another passage with it, and that of one without it, -1 if there is
        none."""
        which, positive, negative = rng.random(3)
        first, stop = self.spans.offsets[number : number + 2]
        occurrence = int(first + int(which * (stop - first)))
        rows = np.unique(self.spans.rows[first:stop])
        others = rows[rows != self.spans.rows[occurrence]]
        begin, end = self._document(self.data.documents[rows[:1]])
        without = np.setdiff1d(self.rows[begin[0] : end[0]], rows, assume_unique=True)
        lacking = int(without[int(negative * len(without))]) if len(without) else -1
        return occurrence, int(others[int(positive * len(others))]), lacking

    def _query(self, occurrence: int, begin: int, rng: np.random.Generator) -> np.ndarray:
        """Whole words around the occurrence, behind token `begin` of its passage, with or without the span."""
        config, spans = self.config, self.spans
        size, where, deleted = rng.random(3)
        ids = self.data.passages[spans.rows[occurrence]]
        start, stop = int(spans.starts[occurrence]), int(spans.stops[occurrence])
        wanted = config.shortest_query + int(size * (config.longest_query - config.shortest_query + 1))
        length = min(max(wanted, stop - start), len(ids) - begin)
        earliest, latest = max(begin, stop - length), min(start, len(ids) - length)
        left = earliest + int(where * (latest - earliest + 1))
        begins_word = self.tokenizer.is_word_start[ids[left : left + length + 1]]
        begins_word[start - left] = True
        right = left + length
        if right < len(ids):  # leave out what is there of a word that goes on
            right = max(stop, left + int(np.flatnonzero(begins_word)[-1]))
        left += int(begins_word.argmax())
        around = np.concatenate([ids[left:start], ids[stop:right]])
        return around if deleted < config.deletion_rate and len(around) else ids[left:right]
