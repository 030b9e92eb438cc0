"""Plain text: the whole file is one document.

A file name such as notes_2021 says little and, put in front of every passage as its title, harms retrieval; so a title
is taken only from the text itself, where its first line looks like one.
"""

from __future__ import annotations

from collections.abc import Iterator

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.source import SourceFile

LONGEST_TITLE = 120  # characters
MOST_TITLE_WORDS = 16


def read_plain(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """The file as one document, its title taken from the first line where that stands alone."""
    text, damage = file.text()
    title, body = split_title(text)
    yield Document(id=file.id, title=title, text=body, metadata={"path": file.id})
    if damage:
        yield file.dropped(f"{damage}; what came before is kept")


def split_title(text: str) -> tuple[str, str]:
    """(title, rest) where the first line is short, no sentence, and apart from the text below; else ("", text)."""
    stripped = text.lstrip("\n\ufeff \t")
    first, _, rest = stripped.partition("\n")
    first = first.strip().lstrip("#").strip()
    next_line, _, after = rest.partition("\n")
    underlined = bool(next_line.strip()) and set(next_line.strip()) <= set("=-~*_") and len(next_line.strip()) > 2
    if underlined:
        rest = after
    is_title = (
        0 < len(first) <= LONGEST_TITLE
        and len(first.split()) <= MOST_TITLE_WORDS
        and not first.endswith((".", ",", ";", ":"))
        and any(character.isalpha() for character in first)
        and (underlined or not next_line.strip())
        and bool(rest.strip())
    )
    return (first, rest.strip("\n")) if is_title else ("", text)
