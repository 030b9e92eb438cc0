"""A bounded sample of a corpus's texts, the same for the same texts and seed.

Every text draws a random number as it streams by, and those with the smallest numbers stay, as many as fill the limit:
a uniform sample without replacement from a stream whose length nobody knows (reservoir sampling; Vitter 1985, "Random
Sampling with a Reservoir", here bounded by characters). Memory holds the sample and one text.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.clean import clean_document, reason_to_drop
from corpusmith.corpus.store import Corpus
from corpusmith.errors import CorpusError


@dataclass(frozen=True, slots=True)
class TextSample:
    """`texts` in the order in which they came; `characters` in them, `total_characters` in all that they were drawn
    from."""

    texts: tuple[str, ...]
    characters: int
    total_characters: int


def sample_texts(texts: Iterable[str], characters: int, seed: int) -> TextSample:
    """Draw texts until they have so many characters; the last one drawn is cut to fit.

    Raises:
        CorpusError: there is no text.
    """
    rng = np.random.default_rng([seed, 0x70])
    drawn: list[tuple[float, int, str]] = []  # a heap with the largest random number at its top
    held = total = 0
    for number, text in enumerate(texts):
        if not text or text.isspace():
            continue
        total += len(text)
        text = text[:characters]
        heapq.heappush(drawn, (-rng.random(), number, text))
        held += len(text)
        while held - len(drawn[0][2]) >= characters:
            held -= len(heapq.heappop(drawn)[2])
    if not drawn:
        raise CorpusError("there is no text to learn a vocabulary from; point to documents with text")
    if held > characters:
        key, number, text = heapq.heappop(drawn)
        drawn.append((key, number, text[: len(text) - (held - characters)]))
    kept = tuple(text for _, _, text in sorted(drawn, key=lambda entry: entry[1]))
    return TextSample(kept, sum(map(len, kept)), total)


def sample_corpus(corpus: Corpus, characters: int, seed: int) -> TextSample:
    """A sample of the passages of documents that duplicate no other one."""
    trainable = np.zeros(corpus.n_passages, dtype=bool)
    trainable[corpus.trainable_rows()] = True
    return sample_texts((entry.content for entry in corpus.passages() if trainable[entry.row]), characters, seed)


def sample_documents(
    documents: Iterable[Document | Dropped], characters: int, seed: int, minimum_words: int = 3
) -> TextSample:
    """A sample of the paragraphs of documents as they are read, cleaned, those that a corpus would drop left out."""
    return sample_texts(_paragraphs(documents, minimum_words), characters, seed)


def _paragraphs(documents: Iterable[Document | Dropped], minimum_words: int) -> Iterator[str]:
    for item in documents:
        if isinstance(item, Dropped):
            continue
        document = clean_document(item)
        if reason_to_drop(document, minimum_words) is None:
            yield document.title
            yield from document.text.split("\n\n")
