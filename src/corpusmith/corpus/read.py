"""Documents in: paths to a stream of documents, and of what was left out with the reason.

`read` finds the files, hands each to the reader of its kind, and watches over what comes back: no document without
text, none beyond the size limit, no string that cannot be encoded. A bad file or line never ends the run: it becomes a
`Dropped` in its place. What ends it is what only the user can mend for the whole source: a path that does not exist, a
table whose text column has an unknown name, a missing PDF reader. Whatever else a reader stumbles over in a file (a
ValueError, a RecursionError) drops the rest of that file.

Ids are opaque strings. They come from the source (a field, a PubMed id) or are the file's path below the common root of
all paths given, `path#n` for records without an id. They may look like paths or hold newlines and are never used as
file names. They may also repeat: to tell duplicates apart is the business of `corpus/store.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from fnmatch import fnmatch
from pathlib import Path

from corpusmith.artefact import FILES, FOR_USERS, STEPS, is_kept_aside
from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.html import read_html
from corpusmith.corpus.readers.installed_docs import read_installed_docs
from corpusmith.corpus.readers.jsonl import read_jsonl, refuse_json
from corpusmith.corpus.readers.markdown import read_markdown
from corpusmith.corpus.readers.pdf import read_pdf, require_pypdf
from corpusmith.corpus.readers.plain import read_plain
from corpusmith.corpus.readers.pubmed import read_pubmed
from corpusmith.corpus.readers.restructured import read_restructured
from corpusmith.corpus.readers.source import (
    BINARY_SAMPLE,
    SourceFile,
    Unreadable,
    read_piece,
    refuse_binary,
    refuse_machine_error,
    too_large,
)
from corpusmith.corpus.readers.tables import read_csv, read_parquet
from corpusmith.errors import CorpusError
from corpusmith.locks import LOCK

FileReader = Callable[[SourceFile, CorpusConfig], Iterator[Document | Dropped]]

READERS: dict[str, FileReader] = {
    **dict.fromkeys((".txt", ".text"), read_plain),
    **dict.fromkeys((".md", ".markdown"), read_markdown),
    **dict.fromkeys((".html", ".htm", ".xhtml"), read_html),
    **dict.fromkeys((".jsonl", ".ndjson"), read_jsonl),
    **dict.fromkeys((".csv", ".tsv", ".tab"), read_csv),
    **dict.fromkeys((".parquet", ".pq"), read_parquet),
    **dict.fromkeys((".xml", ".nxml"), read_pubmed),
    ".rst": read_restructured,
    ".json": refuse_json,
    ".pdf": read_pdf,
}
WHOLE = {".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml", ".rst", ".pdf"}
"""Kinds of files that are one document each, so that the limit of a document is the file's."""
TABLES = {".csv", ".tsv", ".tab", ".parquet", ".pq"}
OUTPUTS = {*FOR_USERS, STEPS, *FILES}
"""What is no document in the folder of a build."""
BEIR_CORPORA = ("corpus.jsonl", "corpus.jsonl.gz")
BEIR_COMPANIONS = ("queries.jsonl", "queries.jsonl.gz", "qrels")


def read(paths: Sequence[Path | str], config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Stream the documents under `paths`, in the order of their names.

    Files are listed before anything is read, so a missing path raises CorpusError at once, not after an hour. With
    `config.source = "installed-docs"` there are no paths.
    """
    if config.source == "installed-docs":
        if paths:
            raise CorpusError(
                f"source = 'installed-docs' reads no paths, but {paths[0]} is given: leave one of them out"
            )
        return _sound(read_installed_docs(config), config)
    files = list(source_files([Path(path) for path in paths], config))
    if any(isinstance(file, SourceFile) and suffix_of(file.path) == ".pdf" for file in files):
        require_pypdf()
    named = {Path(path) for path in paths}
    return _first(_sound(_read_files(files, named, config), config), config.maximum_documents)


def suffix_of(path: Path) -> str:
    """The extension that names a file's kind: in lower case, the one before .gz where there is one."""
    name = path.name.lower().removesuffix(".gz")
    return os.path.splitext(name)[1]


def _read_files(
    files: Iterable[SourceFile | Dropped], named: Set[Path], config: CorpusConfig
) -> Iterator[Document | Dropped]:
    """The documents of all files.

    Tables lie about in many folders that are no documents: one without a text column is only dropped, unless it was
    itself `named` as input or nothing else was found. JSON lines are written to be read, and stop the run.
    """
    found, first_error = False, None
    for file in files:
        try:
            for item in _read_file(file, config):
                found = found or isinstance(item, Document)
                yield item
        except CorpusError as error:
            if not isinstance(file, SourceFile) or file.path in named or suffix_of(file.path) not in TABLES:
                raise
            first_error = first_error or error
            yield file.dropped(str(error))
    if first_error is not None and not found:
        raise first_error


def _read_file(file: SourceFile | Dropped, config: CorpusConfig) -> Iterator[Document | Dropped]:
    if isinstance(file, Dropped):
        yield file
        return
    reader = READERS.get(suffix_of(file.path), _refuse_unknown)
    try:
        yield from reader(file, config)
    except Unreadable as error:
        yield file.dropped(str(error))
    except OSError as error:
        refuse_machine_error(error, file.path)
        yield file.dropped(f"cannot be read: {error.strerror or error}")
    except (ValueError, RecursionError) as error:  # what no reader foresaw costs its file, not the others
        message = " ".join(str(error).split())[:200]
        yield file.dropped(f"cannot be read: {type(error).__name__}: {message}")


def digest_source(file: SourceFile) -> str:
    """What identifies a file as far as it is read: SHA-256 of its bytes, of a kind that no reader is for SHA-256 of how
    it begins, and of a document beyond the limit that it is too large. Films among the documents cost no time."""
    try:
        if suffix_of(file.path) not in READERS:
            with file.open() as stream:
                return hashlib.sha256(read_piece(stream, BINARY_SAMPLE)).hexdigest()
        if is_too_large(file):
            return too_large(file.limit)
    except Unreadable as error:
        return str(error)
    except OSError as error:
        refuse_machine_error(error, file.path)
        return ""
    return file.digest()


def is_too_large(file: SourceFile) -> bool:
    """Whether a file is one document and beyond a document's limit, as far as its size tells: of packed ones it does
    not. Raises what reading it would raise, Unreadable or an OSError."""
    return suffix_of(file.path) in WHOLE and file.path.stat().st_size > file.limit and not file.is_packed()


def _refuse_unknown(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Files of a kind that no reader is for are dropped, once each, noting whether they are text at all."""
    with file.open() as stream:
        refuse_binary(read_piece(stream, BINARY_SAMPLE))
    suffix = suffix_of(file.path)
    kind = f"unknown extension '{suffix}'" if suffix else "no extension"
    yield file.dropped(f"{kind}: corpusmith reads {', '.join(sorted(set(READERS) - {'.json'}))}")


def source_files(paths: Sequence[Path], config: CorpusConfig) -> Iterator[SourceFile | Dropped]:
    """The files under `paths`, each once, hidden ones and what builds made left out; links are followed, but never in
    circles."""
    if not paths:
        raise CorpusError("no documents given: name a folder or files, or set corpus.source = 'installed-docs'")
    for path in paths:
        if not path.exists():
            raise CorpusError(f"no such file or folder: {path}")
        if config.source == "beir" and _beir_corpus(path) is None:
            raise CorpusError(f"{path} is no BEIR folder: it holds neither {' nor '.join(BEIR_CORPORA)}")
    root = os.path.commonpath([os.path.abspath(path if path.is_dir() else path.parent) for path in paths])
    seen: dict[tuple[int, int], SourceFile] = {}
    for path in paths:
        for found in _walk(path, config.source):
            id = _relative_id(found, root)
            file = SourceFile(found, id, config.maximum_document_bytes)
            if any(fnmatch(id, pattern) or fnmatch(found.name, pattern) for pattern in config.exclude):
                continue
            try:
                status = found.stat()
            except OSError as error:
                refuse_machine_error(error, found)
                yield file.dropped(f"cannot be read: {error.strerror}")
                continue
            first = seen.setdefault((status.st_dev, status.st_ino), file)
            if first is file:
                yield file
            elif first.id != id:
                yield file.dropped(f"the same file as another: {first.id}")


def _walk(top: Path, source: str) -> Iterator[Path]:
    """Files below `top` in the order of their names; of a BEIR folder only its corpus."""
    stack, entered = [top], set()
    while stack:
        path = stack.pop()
        try:
            if not path.is_dir():
                yield path
                continue
            status = path.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            is_of_a_build = (path / LOCK).is_file()
            if is_of_a_build and path == top:
                raise CorpusError(
                    f"{path} is the folder of a build (it holds {LOCK}), not of documents: name the documents, or "
                    "delete that file if they are here"
                )
            corpus = _beir_corpus(path)
            has_companion = any((path / name).exists() for name in BEIR_COMPANIONS)
            if corpus is not None and (source == "beir" or (source == "auto" and has_companion)):
                yield corpus
                continue
            entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
            if is_of_a_build:
                entries = [entry for entry in entries if entry.name not in OUTPUTS and not is_kept_aside(entry)]
        except OSError:
            yield path  # whoever opens it will say why it cannot be read
            continue
        stack.extend(reversed(entries))


def _beir_corpus(folder: Path) -> Path | None:
    return next((folder / name for name in BEIR_CORPORA if (folder / name).is_file()), None)


def _relative_id(path: Path, root: str) -> str:
    relative = Path(os.path.relpath(os.path.abspath(path), root)).as_posix()
    return os.fsencode(relative).decode("utf-8", "backslashreplace")


def _sound(items: Iterable[Document | Dropped], config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Pass on what later rooms can rely on: encodable strings, some text, no more than the largest size."""
    for item in items:
        if isinstance(item, Dropped):
            yield Dropped(encodable(item.id), encodable(item.source), encodable(item.reason))
            continue
        document = _encodable_document(item)
        source = document.source
        if not document.text.strip() and not document.title.strip():
            yield Dropped(document.id, source, "empty")
        elif len(document.text) > config.maximum_document_bytes:
            yield Dropped(document.id, source, too_large(config.maximum_document_bytes))
        else:
            yield document


def _first(items: Iterator[Document | Dropped], most: int | None) -> Iterator[Document | Dropped]:
    if most is None:
        yield from items
        return
    read_so_far = 0
    for item in items:
        yield item
        read_so_far += isinstance(item, Document)
        if read_so_far == most:
            return


def _encodable_document(document: Document) -> Document:
    """The document with strings that UTF-8 can encode: JSON can spell half of a surrogate pair, UTF-8 cannot."""
    strings = (document.id, document.title, document.text, *document.links, *map(str, document.metadata.values()))
    if all(_is_encodable(string) for string in (*strings, *document.metadata)):
        return document
    metadata = {
        encodable(key): encodable(value) if isinstance(value, str) else value
        for key, value in document.metadata.items()
    }
    return dataclasses.replace(
        document,
        id=encodable(document.id),
        title=encodable(document.title),
        text=encodable(document.text),
        links=tuple(encodable(link) for link in document.links),
        metadata=metadata,
    )


def _is_encodable(string: str) -> bool:
    if string.isascii():
        return True
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable(string: str) -> str:
    """`string` with lone surrogates replaced by U+FFFD and paired ones joined."""
    return string if _is_encodable(string) else string.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
