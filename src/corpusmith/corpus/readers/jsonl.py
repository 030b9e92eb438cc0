"""JSON lines: one object a line, the format that streams, resumes at a line number and survives one bad record."""

from __future__ import annotations

import json
from collections.abc import Iterator

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.records import Numbered, read_records
from corpusmith.corpus.readers.source import SourceFile, Unreadable, decode_line, too_large


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


def _parse(line: bytes) -> dict | str:
    try:
        value = json.loads(decode_line(line))
    except Unreadable as error:
        return str(error)
    except RecursionError:
        return "not JSON that can be read: nested too deeply"
    except ValueError as error:
        return f"not JSON: {error}"
    return value if isinstance(value, dict) else f"not a JSON object but a {type(value).__name__}"
