"""What the other rooms know of a corpus: documents come in, passages go out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Document:
    """One document as read.

    `links` holds the ids (or titles) of documents this one points to; `metadata` is JSON-serialisable and carries
    what the reader knows beyond the text (path, line, section). Headings inside `text` are lines that start with
    one to six '#' and a space, whatever the source format was.
    """

    id: str
    title: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    links: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where it was read from: its file, or its id where there is none."""
        return str(self.metadata.get("path", self.id))


@dataclass(frozen=True, slots=True)
class Dropped:
    """A document (or line, or file) that was left out, and why: one line of `dropped.jsonl`."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that fits the encoder: the unit of training, indexing and search.

    `row` is its position in the corpus, `document` the position of its document, `ordinal` its position within it.
    """

    row: int
    document: int
    document_id: str
    ordinal: int
    title: str
    heading: str
    text: str

    @property
    def content(self) -> str:
        """What is encoded and indexed: title, heading and text, those that are not empty, parted by a space."""
        return " ".join(part for part in (self.title, self.heading, self.text) if part)


class Reader(Protocol):
    """Streams documents from a source; memory does not grow with the corpus.

    What cannot be read is yielded as `Dropped` with its reason, in place, so that nothing is lost silently.
    """

    def __call__(self) -> Iterator[Document | Dropped]:
        """The documents, and what was left out, in the order of the source."""
        ...
