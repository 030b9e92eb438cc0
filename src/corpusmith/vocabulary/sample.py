"""A bounded sample of a corpus's texts, the same for the same texts and seed.

Every text draws a random number as it streams by, and those with the smallest numbers stay, as many as fill the limit:
a uniform sample without replacement from a stream whose length nobody knows (reservoir sampling; Vitter 1985, "Random
Sampling with a Reservoir", here bounded by characters). Memory holds the sample and one text.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.clean import clean_document, kind_of, reason_to_drop
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.deduplicate import Deduplicator
from corpusmith.corpus.store import Corpus, describe_reasons
from corpusmith.errors import CorpusError

NO_TEXT = "there is no text to learn a vocabulary from; point to documents with text"

LEAST_HALF = 0.25
"""Share of a sample's characters that either half must have, to be of documents of its own."""
PIECE = re.compile(r".{1,1000}(?:\s|$)|.{1,1000}", re.DOTALL)
"""A part of a text, which ends between words where there are spaces."""


@dataclass(frozen=True, slots=True)
class TextSample:
    """`texts` in the order in which they came; `characters` in them, `total_characters` in all that they were drawn
    from; for each text the number of its document in `documents`."""

    texts: tuple[str, ...]
    characters: int
    total_characters: int
    documents: tuple[int, ...] = ()

    def halves(self) -> tuple[TextSample, TextSample]:
        """The texts of every second document to learn from, and those of the others to measure on: what is learned
        from the very texts saves more in them than in any other. Every second text, where all are of one document;
        every second piece of all texts, where one of the halves would have hardly anything; the whole sample twice,
        where there is one piece."""
        ranks = {document: rank for rank, document in enumerate(dict.fromkeys(self.documents))}
        places = [ranks[document] for document in self.documents] if len(ranks) > 1 else range(len(self.texts))
        halves = self._half(self.texts, places, 0), self._half(self.texts, places, 1)
        if min(half.characters for half in halves) >= LEAST_HALF * self.characters:
            return halves
        pieces = [piece for text in self.texts for piece in PIECE.findall(text)]
        if len(pieces) < 2:
            return self, self
        return self._half(pieces, range(len(pieces)), 0), self._half(pieces, range(len(pieces)), 1)

    def _half(self, texts: Sequence[str], places: Sequence[int], rest: int) -> TextSample:
        """The texts whose places leave this rest when halved."""
        kept = tuple(text for text, place in zip(texts, places, strict=True) if place % 2 == rest)
        return TextSample(kept, sum(map(len, kept)), self.total_characters)


def sample_texts(texts: Iterable[str], characters: int, seed: int) -> TextSample:
    """Draw texts until they have so many characters; the last one drawn is cut to fit. Each is a document.

    Raises:
        CorpusError: there is no text.
    """
    return _draw(enumerate(texts), characters, seed)


def _draw(
    texts: Iterable[tuple[int, str]], characters: int, seed: int, why_none: Callable[[], str] = lambda: NO_TEXT
) -> TextSample:
    """A sample of texts that come with the numbers of their documents; where there are none, an error says why."""
    rng = np.random.default_rng([seed, 0x70])
    drawn: list[tuple[float, int, str, int]] = []  # a heap with the largest random number at its top
    held = total = 0
    for number, (document, text) in enumerate(texts):
        if not text or text.isspace():
            continue
        total += len(text)
        text = text[:characters]
        heapq.heappush(drawn, (-rng.random(), number, text, document))
        held += len(text)
        while held - len(drawn[0][2]) >= characters:
            held -= len(heapq.heappop(drawn)[2])
    if not drawn:
        raise CorpusError(why_none())
    if held > characters:
        key, number, text, document = heapq.heappop(drawn)
        drawn.append((key, number, text[: len(text) - (held - characters)], document))
    drawn.sort(key=lambda entry: entry[1])
    kept = tuple(text for _, _, text, _ in drawn)
    return TextSample(kept, sum(map(len, kept)), total, tuple(document for _, _, _, document in drawn))


def sample_corpus(corpus: Corpus, characters: int, seed: int) -> TextSample:
    """A sample of the passages of documents that duplicate no other one."""
    trainable = np.zeros(corpus.n_passages, dtype=bool)
    trainable[corpus.trainable_rows()] = True
    documents = corpus.passage_documents
    passages = ((int(documents[entry.row]), entry.content) for entry in corpus.passages() if trainable[entry.row])
    return _draw(passages, characters, seed)


def sample_documents(
    documents: Iterable[Document | Dropped],
    characters: int,
    seed: int,
    config: CorpusConfig | None = None,
    dropped: Callable[[Dropped], object] = lambda _: None,
) -> TextSample:
    """A sample of the paragraphs of documents as they are read, cleaned, without those that a corpus would drop;
    `dropped` is told of each of these."""
    config, counts = config or CorpusConfig(), Counter[str]()

    def count(item: Dropped) -> None:
        counts[kind_of(item.reason)] += 1
        dropped(item)

    def why_none() -> str:
        return f"none of {counts.total():,} documents can be used: {describe_reasons(counts)}" if counts else NO_TEXT

    with closing(Deduplicator(config.near_duplicate_threshold)) as seen:
        admitted = (_admitted(item, config, seen) for item in documents)
        return _draw(_paragraphs(admitted, count), characters, seed, why_none)


def _paragraphs(
    documents: Iterable[Document | Dropped], dropped: Callable[[Dropped], object]
) -> Iterator[tuple[int, str]]:
    for number, item in enumerate(documents):
        if isinstance(item, Dropped):
            dropped(item)
        else:
            yield from ((number, text) for text in (item.title, *item.text.split("\n\n")))


def _admitted(item: Document | Dropped, config: CorpusConfig, seen: Deduplicator) -> Document | Dropped:
    """The cleaned document, or why it is left out."""
    if isinstance(item, Dropped):
        return item
    document = clean_document(item)
    reason = reason_to_drop(document, config.minimum_words)
    if reason is None and config.duplicates != "keep":
        duplicate = seen.add(document.id, f"{document.title}\n{document.text}")
        reason = duplicate.reason if duplicate else None
    return document if reason is None else Dropped(item.id, item.source, reason)
