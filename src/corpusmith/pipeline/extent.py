"""How large documents are, told from their files before they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.read import READERS, is_too_large, read, source_files, suffix_of
from corpusmith.corpus.readers.source import SourceFile, Unreadable
from corpusmith.errors import CorpusmithError
from corpusmith.vocabulary.tokenizer import Tokenizer

GZIP_RATIO = 3
"""What is packed becomes so many times as large, where its file does not tell; it tells (modulo 2^32, RFC 1952, section
2.3.1) of the last of its parts, and most have one."""
LARGEST_GZIP_RATIO = 30
USUAL_BYTES_A_TOKEN = 4.5
"""Of English under an English vocabulary; German law takes 2.8 under the same one."""
TRIED_BYTES = 200_000
"""Text that is cut into tokens to see how many bytes one takes."""
TRIED_FILES = 50
"""Files that are opened for it, at most."""
STREAMED = {".jsonl", ".ndjson"}
QUICK = {".txt", ".text", ".md", ".markdown", ".rst", ".html", ".htm", ".xhtml"}
"""Files that are read to the first text at once, and those that are where they are small."""
SMALL_FILE = 1_000_000


def file_bytes(paths: Sequence[Path], corpus: CorpusConfig) -> int:
    """Bytes of all files that are read, those that are packed counted as what they will be."""
    files = (file for file in source_files(paths, corpus) if not isinstance(file, Dropped))
    return sum(_unpacked(file.path) for file in files if _is_read(file))


def _is_read(file: SourceFile) -> bool:
    try:
        return suffix_of(file.path) in READERS and not is_too_large(file)
    except (Unreadable, OSError):
        return False


def _unpacked(path: Path) -> int:
    size = path.stat().st_size
    if path.suffix != ".gz":
        return size
    try:
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            told = int.from_bytes(file.read(4), "little")
    except OSError:
        told = 0
    return told if size < told < LARGEST_GZIP_RATIO * size else GZIP_RATIO * size


def bytes_a_token(paths: Sequence[Path], corpus: CorpusConfig, tokenizer: Tokenizer) -> float:
    """UTF-8 bytes that a token takes in the first texts that can be read quickly; the usual number where there are
    none."""
    texts: list[str] = []
    left = TRIED_BYTES
    for document in _quick_documents(paths, corpus):
        texts.append(document.text.encode()[:left].decode("utf-8", errors="ignore"))
        left -= len(texts[-1].encode())
        if left < 4:
            break
    tokens = sum(len(ids) for ids in tokenizer.stream(texts))
    return (TRIED_BYTES - left) / tokens if tokens else USUAL_BYTES_A_TOKEN


def _quick_documents(paths: Sequence[Path], corpus: CorpusConfig) -> Iterator[Document]:
    """Documents of files that give one at once; what cannot be read is the build's to name."""
    if corpus.source == "installed-docs":
        return
    alone = corpus.model_copy(update={"source": "files"})
    tried = 0
    for file in source_files(paths, corpus):
        if isinstance(file, Dropped) or not _is_quick(file.path):
            continue
        tried += 1
        if tried > TRIED_FILES:
            return
        try:
            yield from (item for item in read([file.path], alone) if isinstance(item, Document))
        except (CorpusmithError, OSError, EOFError):
            continue


def _is_quick(path: Path) -> bool:
    suffix = suffix_of(path)
    try:
        return suffix in STREAMED or (suffix in QUICK and path.stat().st_size < SMALL_FILE)
    except OSError:
        return False
