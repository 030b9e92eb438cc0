"""Tables: CSV and TSV as they really occur, and parquet; each row is a record.

CSV has no standard that files obey. The delimiter is the one that cuts the sample's rows most evenly; quoting in tab
separated files is honoured only where the sample needs it, because most of them are written without any and a stray
quotation mark would swallow the rows after it.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.records import Numbered, read_records
from corpusmith.corpus.readers.source import SourceFile, Unreadable, decode_line, refuse_machine_error, too_large

DELIMITERS = ",;\t|"
SAMPLE_LINES = 200
SAMPLE_CHARACTERS = 200_000
BATCH_ROWS = 256
SHORTEST_LIMIT, LONGEST_FIELD = (
    128 * 1024,
    2**31 - 1,
)  # of a field: Python's default, the most it takes


def read_csv(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Documents of a .csv or .tsv file with a header line; a row of more fields than the header is dropped."""
    return read_records(_rows(file), file, config)


def read_parquet(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Documents of a parquet file, read in batches of rows; values of other types than text become text."""
    return read_records(_parquet_rows(file), file, config, unit="row")


def _rows(file: SourceFile) -> Iterator[Numbered]:
    csv.field_size_limit(min(max(SHORTEST_LIMIT, file.limit), LONGEST_FIELD))
    lines = _text_lines(file)
    sample = list(islice(lines, SAMPLE_LINES))
    dialect = sniff("".join(sample)[:SAMPLE_CHARACTERS], tabs=".tsv" in file.path.name or ".tab" in file.path.name)
    reader = csv.reader(_chain(sample, lines), **dialect)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, f"not CSV: {error}"
            return
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header = [cell.strip() for cell in row]
        elif any(cell.strip() for cell in row[len(header) :]):
            yield start, f"{len(row)} fields where the header has {len(header)}"
        else:
            yield start, dict(zip(header, row, strict=False))


def _text_lines(file: SourceFile) -> Iterator[str]:
    for number, line in file.lines():
        if line is None:
            raise Unreadable(f"line {number} is {too_large(file.limit)}")
        try:
            yield decode_line(line) + "\n"
        except Unreadable:
            yield line.decode("utf-8", "replace") + "\n"


def _chain(first: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from first
    yield from rest


def sniff(sample: str, tabs: bool = False) -> dict[str, Any]:
    """Arguments for `csv.reader`: the delimiter that cuts the most rows into as many (and at least two) fields as the
    first; `tabs` says that the file's name promises tabs."""
    if tabs:
        bare: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
        quoted: dict[str, Any] = {"delimiter": "\t"}
        starts_quoted = sample.lstrip().startswith('"')
        return quoted if starts_quoted or _evenness(sample, bare) < _evenness(sample, quoted) else bare
    best = max(DELIMITERS, key=lambda delimiter: _evenness(sample, {"delimiter": delimiter}))
    return {"delimiter": best}


def _evenness(sample: str, dialect: dict[str, Any]) -> float:
    """The share of rows with as many fields as the first; 0 where that is one field."""
    try:
        rows = [row for row in csv.reader(io.StringIO(sample), **dialect) if row]
    except csv.Error:
        return 0.0
    if not rows or len(rows[0]) < 2:
        return 0.0
    # The sample may end in the middle of a row.
    complete = rows[:-1] or rows
    return sum(len(row) == len(rows[0]) for row in complete) / len(complete)


def _parquet_rows(file: SourceFile) -> Iterator[Numbered]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open() as stream:
        try:
            table = pq.ParquetFile(stream, pre_buffer=False)
            number = 0
            for batch in table.iter_batches(batch_size=BATCH_ROWS):
                columns = {
                    name: _values(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                for row in range(batch.num_rows):
                    number += 1
                    yield number, {name: values[row] for name, values in columns.items()}
        except (pa.ArrowException, OSError, ValueError, EOFError, zlib.error) as error:
            if isinstance(error, OSError):
                refuse_machine_error(error, file.path)
            message = " ".join(str(error).split())[:200]
            raise Unreadable(f"the parquet file cannot be read: {message}") from None


def _values(column: Any) -> list[Any]:
    """A column as Python values; those that Python has no type for (times in nanoseconds) as text."""
    try:
        return column.to_pylist()
    except (ValueError, TypeError, OverflowError):
        return column.cast("string").to_pylist()
