"""From a stream of documents to a corpus on disk: clean, tell duplicates apart, cut, write.

One pass, document by document, in the order of the stream. What must be remembered of each (signature, hashes, id)
lies in a temporary folder, so that memory hardly grows with the corpus. Everything that is left out is written down
with its reason.

Ids must be unique, because links, judgements and search results refer to documents by them. A document that comes
again with the same id and the same text is dropped as a duplicate; one with the same id and another text is kept as
"id~2", which loses nothing, and is counted. Where relevance judgements name documents, all that have any text are
kept, however short: a judged document that cannot be found would make every method look worse than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.clean import clean_document, count_words, reason_to_drop
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.deduplicate import Deduplicator
from corpusmith.corpus.passages import split_document
from corpusmith.corpus.spill import StringSet
from corpusmith.corpus.store import DROPPED, CorpusSummary, CorpusWriter, describe_reasons
from corpusmith.errors import CorpusError

REPORT_EVERY = 100
"""Documents between two calls of `progress`."""


def build_corpus(
    documents: Iterable[Document | Dropped],
    config: CorpusConfig,
    out: Path,
    progress: Callable[[str, int], None] | None = None,
    *,
    judged: bool = False,
) -> CorpusSummary:
    """Write the corpus that `documents` make into the existing folder `out`; see `corpus.store` for the files.

    `progress` is called with ("documents", number read so far). `judged` says that relevance judgements name
    documents: then none is dropped for its length, nor as a duplicate if `config.duplicates` is "auto" (the source
    "beir" implies it).

    Raises:
        CorpusError: no document is left, or one is left out and `config.strict` is set.
    """
    words = characters = read = 0
    with closing(_Admission(config, judged or config.source == "beir", out)) as admission, CorpusWriter(out) as writer:
        for item in _reporting(documents, progress):
            read += 1
            outcome = item if isinstance(item, Dropped) else admission.judge(item)
            if isinstance(outcome, Dropped):
                if config.strict:
                    raise forbidden(outcome)
                writer.drop(outcome)
                continue
            document = outcome.document
            words += count_words(document.text)
            characters += len(document.text)
            writer.add(document, split_document(document, config), outcome.duplicate_of)
        summary = CorpusSummary(
            documents_read=read,
            documents=writer.n_documents,
            passages=writer.n_passages,
            words=words,
            characters=characters,
            dropped=dict(writer.dropped.most_common()),
            exact_duplicates=admission.exact_duplicates,
            near_duplicates=admission.near_duplicates,
            renamed=admission.renamed,
        )
        if not summary.documents:
            raise CorpusError(_nothing_left(summary, out / DROPPED))
        writer.finish(summary)
    return summary


def forbidden(dropped: Dropped) -> CorpusError:
    """The error that a document left out is where `corpus.strict` is set."""
    return CorpusError(f"{dropped.source}: {dropped.reason} (strict = true: nothing may be left out)")


@dataclass(frozen=True, slots=True)
class _Admitted:
    document: Document
    duplicate_of: str | None


class _Admission:
    """Decides, document by document, what belongs to the corpus and under which id."""

    def __init__(self, config: CorpusConfig, judged: bool, folder: Path):
        self.minimum_words = 0 if judged else config.minimum_words
        self.keeps_duplicates = config.duplicates == "keep" or (config.duplicates == "auto" and judged)
        self.exact_duplicates = self.near_duplicates = self.renamed = 0
        self._folder = TemporaryDirectory(prefix=".ids-", dir=folder)
        self._taken = StringSet(Path(self._folder.name))
        self._deduplicator = Deduplicator(config.near_duplicate_threshold, folder=folder)
        self._given_ids: dict[str, str] = {}
        """The id under which a document came, by the one under which it is kept, where they differ."""
        self._copies: dict[str, int] = {}
        """How many documents came with the same id, where there are several."""

    def close(self) -> None:
        """Forget all documents."""
        self._deduplicator.close()
        self._taken.close()
        self._folder.cleanup()

    def judge(self, document: Document) -> _Admitted | Dropped:
        """The cleaned document under an id of its own, or why it is left out."""
        source = document.source
        document = clean_document(document)
        if reason := reason_to_drop(document, self.minimum_words):
            return Dropped(document.id, source, reason)
        identifier = self._own_id(document.id)
        duplicate = self._deduplicator.add(identifier, f"{document.title}\n{document.text}")
        if duplicate is None:
            return self._admit(document, identifier, None)
        self.exact_duplicates += duplicate.exact
        self.near_duplicates += not duplicate.exact
        comes_again = duplicate.exact and self._given_ids.get(duplicate.of, duplicate.of) == document.id
        if comes_again or not self.keeps_duplicates:
            return Dropped(document.id, source, duplicate.reason)
        return self._admit(document, identifier, duplicate.of)

    def _own_id(self, identifier: str) -> str:
        """`identifier`, or with the first free suffix "~2", "~3", ... where another document bears it."""
        free, copies = identifier, self._copies.get(identifier, 1)
        while free in self._taken:
            copies += 1
            free = f"{identifier}~{copies}"
        return free

    def _admit(self, document: Document, identifier: str, duplicate_of: str | None) -> _Admitted:
        self._taken.add(identifier)
        if identifier == document.id:
            return _Admitted(document, duplicate_of)
        self.renamed += 1
        self._given_ids[identifier] = document.id
        self._copies[document.id] = int(identifier.rpartition("~")[2])
        return _Admitted(replace(document, id=identifier), duplicate_of)


def _reporting(
    documents: Iterable[Document | Dropped], progress: Callable[[str, int], None] | None
) -> Iterator[Document | Dropped]:
    read = 0
    for item in documents:
        yield item
        read += 1
        if progress and read % REPORT_EVERY == 0:
            progress("documents", read)
    if progress:
        progress("documents", read)


def _nothing_left(summary: CorpusSummary, reasons: Path) -> str:
    if not summary.documents_read:
        return "there are no documents to work with: the folder or files given hold none; name others"
    return (
        f"none of {summary.documents_read:,} documents can be used: {describe_reasons(summary.dropped)} "
        f"(each with its reason in {reasons}); point to documents with text, or change the corpus options that leave "
        "them out"
    )
