"""The corpus as it lies on disk: a table of documents and a table of passages.

Every later step refers to passages by their row and to documents by theirs, so rows never change once written. Tables
are parquet, which any tool of the field opens (`corpus.tables` reads them by row or as a stream). Beside them lie the
document of each passage as an array, what was left out and why (`dropped.jsonl`, one JSON object a line), and the
counts (`statistics.json`).
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
import pyarrow as pa

from corpusmith.arrays import open_array, save_array
from corpusmith.corpus.base import Document, Dropped, Passage
from corpusmith.corpus.clean import kind_of
from corpusmith.corpus.tables import Table, TableWriter
from corpusmith.errors import ArtefactError

DOCUMENTS = "documents.parquet"
PASSAGES = "passages.parquet"
PASSAGE_DOCUMENT = "passage_document.npy"
DROPPED = "dropped.jsonl"
STATISTICS = "statistics.json"
IDS_AT_ONCE = 10_000

_DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("links", pa.list_(pa.string()), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("first_passage", pa.int64(), nullable=False),
        pa.field("n_passages", pa.int32(), nullable=False),
        pa.field("duplicate_of", pa.string()),
    ]
)
_PASSAGE_SCHEMA = pa.schema(
    [
        pa.field("document", pa.int64(), nullable=False),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("heading", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """What the corpus knows of a document besides its text, which lies in its passages.

    Its passages are the rows `first_passage` to `first_passage + n_passages` (exclusive). `duplicate_of` is the id of
    the earlier document that says the same, where duplicates are kept.
    """

    id: str
    title: str
    links: tuple[str, ...]
    metadata: dict[str, Any]
    first_passage: int
    n_passages: int
    duplicate_of: str | None


@dataclass(frozen=True, slots=True)
class CorpusSummary:
    """What became of the documents. `words` and `characters` are those of the kept texts, overlaps counted once.

    `dropped` counts what was left out by kind of reason, duplicates included where they are dropped; `duplicates`
    found exactly or nearly are counted whether dropped or kept. `renamed` documents had another one's id.
    """

    documents_read: int
    documents: int
    passages: int
    words: int
    characters: int
    dropped: dict[str, int]
    exact_duplicates: int
    near_duplicates: int
    renamed: int

    def __str__(self) -> str:
        """The counts as a sentence for people."""
        text = f"{self.documents:,} of {self.documents_read:,} documents kept, {self.passages:,} passages"
        text += f", {self.words:,} words"
        if self.dropped:
            text += f"; left out: {describe_reasons(self.dropped)}"
        if self.renamed:
            text += f"; {self.renamed:,} ids occurred again and got a suffix such as ~2"
        return text


def describe_reasons(dropped: dict[str, int], most: int = 5) -> str:
    """The commonest reasons with their counts: "empty (12), too short (3)"."""
    common = Counter(dropped).most_common()
    named = [f"{kind} ({count:,})" for kind, count in common[:most]]
    if rest := sum(count for _, count in common[most:]):
        named.append(f"other reasons ({rest:,})")
    return ", ".join(named)


class Identifiers(Sequence[str]):
    """The ids of documents by row, as they lie in the table: Python's own strings would take five times the memory."""

    def __init__(self, column: pa.ChunkedArray):
        self._column = column.cast(pa.large_string()).combine_chunks()

    @classmethod
    def of(cls, ids: Iterable[str]) -> Self:
        """The given ids, in their order."""
        return cls(pa.chunked_array([pa.array(ids, type=pa.large_string())]))

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """One id, or a list of several."""
        return self._column[row].to_pylist() if isinstance(row, slice) else self._column[int(row)].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), IDS_AT_ONCE):
            yield from self[start : start + IDS_AT_ONCE]

    def rows(self, ids: Iterable[str]) -> dict[str, int]:
        """The row of each of these ids that there is."""
        import pyarrow.compute as pc

        wanted = pa.array(dict.fromkeys(ids), type=pa.large_string())
        found = np.flatnonzero(pc.is_in(self._column, value_set=wanted).to_numpy(zero_copy_only=False))
        return {self[row]: row for row in found.tolist()}


class CorpusWriter:
    """Writes a corpus into an existing folder, in batches: memory holds at most one row group and the document column.

    Use it as a context manager; `finish` completes the files, leaving the block without it closes them unfinished.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.n_documents = 0
        self.n_passages = 0
        self.dropped: Counter[str] = Counter()
        with ExitStack() as opened:
            self._dropped = opened.enter_context((folder / DROPPED).open("w", encoding="utf-8"))
            self._passages = opened.enter_context(closing(TableWriter(folder / PASSAGES, _PASSAGE_SCHEMA)))
            self._documents = opened.enter_context(closing(TableWriter(folder / DOCUMENTS, _DOCUMENT_SCHEMA)))
            self._files = opened.pop_all()
        self._passages_per_document = array("i")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._files.close()

    def add(self, document: Document, pieces: Sequence[tuple[str, str]], duplicate_of: str | None = None) -> None:
        """Append a document with its passages, each a heading and a text."""
        self._documents.append(
            document.id,
            document.title,
            list(document.links),
            json.dumps(document.metadata, ensure_ascii=False, default=str),
            self.n_passages,
            len(pieces),
            duplicate_of,
        )
        title = document.title if document.text else ""  # without a text, the title is the passage
        for ordinal, (heading, text) in enumerate(pieces):
            self._passages.append(self.n_documents, document.id, ordinal, title, heading, text)
        self.n_documents += 1
        self.n_passages += len(pieces)
        self._passages_per_document.append(len(pieces))

    def drop(self, dropped: Dropped) -> None:
        """Note what was left out."""
        self.dropped[kind_of(dropped.reason)] += 1
        self._dropped.write(json.dumps(asdict(dropped), ensure_ascii=False) + "\n")

    def finish(self, summary: CorpusSummary) -> None:
        """Write what is still in memory, and the counts."""
        self._documents.close()
        self._passages.close()
        passage_document = np.repeat(np.arange(self.n_documents, dtype=np.int64), self._passages_per_document)
        save_array(self.folder / PASSAGE_DOCUMENT, passage_document)
        text = json.dumps(asdict(summary), ensure_ascii=False, indent=2)
        (self.folder / STATISTICS).write_text(text + "\n", encoding="utf-8")


class Corpus:
    """A corpus opened for reading; nothing but the row offsets is in memory until it is asked for."""

    def __init__(
        self, folder: Path, documents: Table, passages: Table, passage_documents: np.ndarray, summary: CorpusSummary
    ):
        self.folder = folder
        self._documents = documents
        self._passages = passages
        self.summary = summary
        """What became of the documents that were read."""
        self.passage_documents = passage_documents
        """The row of each passage's document, int64 [n_passages]."""

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        """Open the corpus in `folder`.

        Raises:
            ArtefactError: a file is missing, damaged, or does not fit the others.
        """
        documents = Table(folder / DOCUMENTS, _DOCUMENT_SCHEMA)
        passages = Table(folder / PASSAGES, _PASSAGE_SCHEMA)
        passage_documents = open_array(folder / PASSAGE_DOCUMENT, part_of="corpus")
        if passage_documents.dtype != np.int64 or passage_documents.ndim != 1:
            raise ArtefactError(
                f"{folder / PASSAGE_DOCUMENT} does not hold the documents of passages; build the corpus again"
            )
        if len(passage_documents) != len(passages):
            raise ArtefactError(
                f"{folder / PASSAGE_DOCUMENT} is of {len(passage_documents)} passages and {PASSAGES} holds "
                f"{len(passages)}; build the corpus again"
            )
        if len(passages) and int(passage_documents[-1]) != len(documents) - 1:
            raise ArtefactError(
                f"{folder / DOCUMENTS} holds {len(documents)} documents and the last passage belongs to document "
                f"{int(passage_documents[-1])}; build the corpus again"
            )
        if not (folder / DROPPED).is_file():
            raise ArtefactError(f"{folder / DROPPED} is missing; build the corpus again")
        return cls(folder, documents, passages, passage_documents, _load_summary(folder / STATISTICS))

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return len(self._documents)

    @property
    def n_passages(self) -> int:
        """Number of passages."""
        return len(self._passages)

    @cached_property
    def document_ids(self) -> Identifiers:
        """The id of each document, by row."""
        return Identifiers(self._documents.raw_column("id"))

    def passage(self, row: int) -> Passage:
        """One passage."""
        return self.take([row])[0]

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Passage]:
        """The passages of these rows, in the order asked for; each row group is read once."""
        wanted = np.asarray(rows, dtype=np.int64)
        return [_passage(int(row), values) for row, values in zip(wanted, self._passages.take(wanted), strict=True)]

    def contents_at(self, rows: np.ndarray) -> list[str]:
        """What the passages of these rows say, in the order asked for."""
        return [passage.content for passage in self.take(rows)]

    def passages(self, start: int = 0, stop: int | None = None) -> Iterator[Passage]:
        """Stream the passages from row `start` to `stop` (exclusive)."""
        for row, values in self._passages.scan(start, stop):
            yield _passage(row, values)

    def document(self, row: int) -> DocumentRecord:
        """One document's record."""
        return _record(self._documents.take(np.array([row], dtype=np.int64))[0])

    def documents(self) -> Iterator[DocumentRecord]:
        """Stream the records of all documents."""
        for _, values in self._documents.scan(0, None):
            yield _record(values)

    def dropped(self) -> Iterator[Dropped]:
        """Stream what was left out, with the reasons."""
        with (self.folder / DROPPED).open(encoding="utf-8") as file:
            for line in file:
                yield Dropped(**json.loads(line))

    def passage_rows(self, document: int) -> range:
        """The rows of a document's passages."""
        first, end = np.searchsorted(self.passage_documents, [document, document + 1])
        return range(int(first), int(end))

    def original_documents(self) -> np.ndarray:
        """The documents that duplicate no other one, int64 rows, ascending."""
        return np.flatnonzero(self._documents.is_null("duplicate_of")).astype(np.int64)

    def trainable_rows(self) -> np.ndarray:
        """The passages of documents that duplicate no other one, int64, ascending."""
        original = self._documents.is_null("duplicate_of")
        return np.flatnonzero(original[self.passage_documents]).astype(np.int64)

    def link_rows(self) -> list[tuple[int, int]]:
        """Links between documents of this corpus as (from, to) rows, each once, without those to themselves.

        A link names a document by its id, or by its title where one document alone bears it (case does not matter).
        """
        links = [(row, link) for row, names in enumerate(self._documents.column("links")) for link in names]
        by_id = self.document_ids.rows(link for _, link in links)
        folded = {link.casefold() for _, link in links}
        by_title: dict[str, list[int]] = {}
        for row, title in enumerate(self._documents.column("title") if links else ()):
            if title and title.casefold() in folded:
                by_title.setdefault(title.casefold(), []).append(row)
        found: dict[tuple[int, int], None] = {}
        for row, link in links:
            titled = by_title.get(link.casefold(), [])
            target = by_id.get(link, titled[0] if len(titled) == 1 else None)
            if target is not None and target != row:
                found[row, target] = None
        return list(found)


def _passage(row: int, values: tuple[Any, ...]) -> Passage:
    document, document_id, ordinal, title, heading, text = values
    return Passage(row, document, document_id, ordinal, title, heading, text)


def _record(values: tuple[Any, ...]) -> DocumentRecord:
    identifier, title, links, metadata, first_passage, n_passages, duplicate_of = values
    return DocumentRecord(
        identifier, title, tuple(links), json.loads(metadata), first_passage, n_passages, duplicate_of
    )


def _load_summary(path: Path) -> CorpusSummary:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return CorpusSummary(**{field.name: values[field.name] for field in fields(CorpusSummary)})
    except FileNotFoundError:
        raise ArtefactError(f"{path} is missing; build the corpus again") from None
    except KeyError as error:
        raise ArtefactError(f"{path} is damaged (no {error}); build the corpus again") from None
    except (OSError, ValueError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); build the corpus again") from None
