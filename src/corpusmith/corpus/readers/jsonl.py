"""JSON lines: one object a line, the format that streams, resumes at a line number and survives one bad record."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.records import Numbered, read_records
from corpusmith.corpus.readers.source import SourceFile, Unreadable, decode_line, too_large

MOST_STRUCTURE = 5_000_000  # bytes; each may cost Python thirty, so that a line of braces alone would fill a memory
_STRING_OR_SPACE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|\s++', re.DOTALL)


def read_jsonl(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Documents of a .jsonl file, plain or gzip; blank lines are skipped, a line that is no object is dropped."""
    return read_records(_objects(file), file, config)


def refuse_json(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """A .json file is one value that cannot be streamed: dropped, with the way to mend it."""
    yield file.dropped("JSON is read as one object a line: convert it, e.g. jq -c '.[]' FILE.json > FILE.jsonl")


def _objects(file: SourceFile) -> Iterator[Numbered]:
    for number, line in file.lines():
        if line is None:
            yield number, too_large(file.limit)
        elif line.strip():
            yield number, _parse(line)


def _structure(line: bytes) -> int:
    """Bytes of a line outside its strings; it is looked at no further than to one too many."""
    size = end = 0
    for match in _STRING_OR_SPACE.finditer(line):
        size += match.start() - end
        end = match.end()
        if size > MOST_STRUCTURE:
            return size
    return size + len(line) - end


def single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON (an `object_pairs_hook`); one that has a key twice is a ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        double = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"an object has the key '{double[:40]}' twice")
    return found


def _parse(line: bytes) -> dict | str:
    if len(line) > MOST_STRUCTURE and _structure(line) > MOST_STRUCTURE:
        return f"not JSON that can be read: more than {MOST_STRUCTURE:,} bytes of it are neither strings nor space"
    try:
        value = json.loads(decode_line(line), object_pairs_hook=single_keys)
    except Unreadable as error:
        return str(error)
    except RecursionError:
        return "not JSON that can be read: nested too deeply"
    except ValueError as error:
        return f"not JSON: {error}"
    return value if isinstance(value, dict) else f"not a JSON object but a {type(value).__name__}"
