"""Records with named fields (JSON lines, CSV, parquet) to documents: which field is the text, the title, the id.

Names differ from one export to the next, so common ones are recognised, whatever their case, and the recipe can name
others. A file in which no record has a text is a mistake of naming, not of one line, and stops the run with the names
that are there; a single record without text is only dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.source import SourceFile, Unreadable
from corpusmith.errors import CorpusError

ID_NAMES = ("_id", "id", "doc_id", "docid", "document_id", "pmid")
TITLE_NAMES = ("title", "headline", "heading", "name", "subject")
TEXT_NAMES = (
    "text", "body", "content", "contents", "passage", "document", "article", "abstract", "description",
)  # fmt: skip
PATIENCE = 10_000  # records without text before a file that has had none at all is given up
LONGEST_METADATA = 500  # characters

Numbered = tuple[int, Mapping[str, Any] | str]
"""A record with its number, or why it could not be parsed."""


def read_records(
    records: Iterable[Numbered], file: SourceFile, config: CorpusConfig, unit: str = "line"
) -> Iterator[Document | Dropped]:
    """Documents of numbered records; ids are those of the records, or `path#number`.

    Other fields that are numbers, booleans or short strings become metadata; a list of strings called "links" becomes
    the document's links. Raises CorpusError where no record of the file has a text field.
    """
    found, number = False, 0
    waiting: list[Dropped] = []  # records without text, until it is known whether the file has any
    for number, record in records:
        place = f"{unit} {number}"
        if isinstance(record, str):
            yield file.dropped(record, place, id=f"{file.id}#{number}")
            continue
        name = _field(record, config.text_field, TEXT_NAMES)
        if name is not None:
            yield from waiting
            waiting.clear()
            found = True
            yield _document(record, name, file, number, unit, config)
            continue
        without_text = file.dropped(_no_text(record, config), place, id=f"{file.id}#{number}")
        if found:
            yield without_text
        else:
            waiting.append(without_text)
            if len(waiting) >= PATIENCE:
                break
    if number == 0:
        yield file.dropped("no records")
    if waiting:
        raise CorpusError(f"{waiting[0].source}: {waiting[0].reason}")


def _document(
    record: Mapping[str, Any], text_name: str, file: SourceFile, number: int, unit: str, config: CorpusConfig
) -> Document | Dropped:
    title_name = _field(record, config.title_field, TITLE_NAMES)
    id_name = _field(record, config.id_field, ID_NAMES)
    id = (_as_text(record[id_name]) if id_name else "") or f"{file.id}#{number}"
    text = _as_text(record[text_name])
    if text is None:
        kind = type(record[text_name]).__name__
        return file.dropped(f"field '{text_name}' holds a {kind}, not text", f"{unit} {number}", id=id)
    used = {text_name, title_name, id_name, "links"}
    metadata = {key: value for key, value in record.items() if key not in used and _is_short(value)}
    links = record.get("links")
    return Document(
        id=id,
        title=((_as_text(record[title_name]) if title_name else "") or "").strip(),
        text=text,
        metadata={**metadata, "path": file.id, unit: number},
        links=tuple(links) if isinstance(links, list) and all(isinstance(link, str) for link in links) else (),
    )


def _field(record: Mapping[str, Any], configured: str | None, known: tuple[str, ...]) -> str | None:
    """The key under which `record` holds a field: the configured one, else the first known one, whatever its case."""
    if configured is not None:
        return configured if configured in record else None
    for name in known:
        if name in record:
            return name
    lowered = {key.lower().strip(): key for key in record if isinstance(key, str)}
    return next((lowered[name] for name in known if name in lowered), None)


def used_names(names: Sequence[str], config: CorpusConfig) -> set[str]:
    """Of a table's columns, those that become a document's id, title, text or links.

    Raises:
        Unreadable: one of them is there twice, and nobody knows which is meant.
    """
    columns = Counter(names)
    wanted = ((config.text_field, TEXT_NAMES), (config.title_field, TITLE_NAMES), (config.id_field, ID_NAMES))
    found = (*(_field(columns, configured, known) for configured, known in wanted), "links")
    used = {name for name in found if name is not None and name in columns}
    double = next((name for name in sorted(used) if columns[name] > 1), None)
    if double is not None:
        raise Unreadable(f"{columns[double]} columns are called '{double}': rename all but one")
    return used


def _as_text(value: Any) -> str | None:
    """A field's value as text; None for what is no text (an object, a list of other things than strings)."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return "\n\n".join(value) if all(isinstance(part, str) for part in value) else None
    if isinstance(value, Mapping):
        return None
    return str(value)


def _is_short(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0  # neither NaN nor infinite, which JSON cannot hold
    return isinstance(value, (bool, int)) or (isinstance(value, str) and 0 < len(value) <= LONGEST_METADATA)


def _no_text(record: Mapping[str, Any], config: CorpusConfig) -> str:
    """The message for a record without text: what is there instead, and which of it is most likely meant."""
    wanted = config.text_field or "text"
    names = [str(name) for name in record]
    if not names:
        return f"no '{wanted}' field; the record is empty"
    lengths = {str(name): len(value) if isinstance(value, str) else -1 for name, value in record.items()}
    likely = _field(record, None, TEXT_NAMES) or max(names, key=lambda name: lengths[name])
    listed = ", ".join(f"'{name[:40]}'" for name in names[:8]) + (", ..." if len(names) > 8 else "")
    return f"no '{wanted}' field; found {listed} (set corpus.text_field = '{likely[:40]}')"
