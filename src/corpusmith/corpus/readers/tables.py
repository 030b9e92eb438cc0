"""Tables: CSV and TSV as they really occur, and parquet; each row is a record.

CSV has no standard that files obey. The delimiter is the one that cuts the sample's rows most evenly; quoting in tab
separated files is honoured only where the sample needs it, because most of them are written without any and a stray
quotation mark would swallow the rows after it.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator, Set
from itertools import chain, islice
from typing import Any

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.records import LONGEST_METADATA, Numbered, read_records, used_names
from corpusmith.corpus.readers.source import SourceFile, Unreadable, decode_line, refuse_machine_error, too_large

DELIMITERS = ",;\t|"
SAMPLE_LINES = 200
SAMPLE_CHARACTERS = 200_000
BATCH_ROWS, BATCH_BYTES = 256, 1 << 26
LONGEST_UNUSED = 4 * LONGEST_METADATA  # bytes of a cell that can still become metadata
END = "\x1cend of file\x1c"  # a line that stands by itself unless a quotation mark before it is still open
SHORTEST_LIMIT, LONGEST_FIELD = (
    128 * 1024,
    2**31 - 1,
)  # of a field: Python's default, the most it takes


def read_csv(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Documents of a .csv or .tsv file with a header line; a row of more fields than the header is dropped."""
    return read_records(_rows(file, config), file, config)


def read_parquet(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Documents of a parquet file, read in batches of rows; values of other types than text become text."""
    return read_records(_parquet_rows(file, config), file, config, unit="row")


def _rows(file: SourceFile, config: CorpusConfig) -> Iterator[Numbered]:
    csv.field_size_limit(min(max(SHORTEST_LIMIT, file.limit), LONGEST_FIELD))
    lines = _text_lines(file)
    sample = list(islice(lines, SAMPLE_LINES))
    dialect = sniff("".join(sample)[:SAMPLE_CHARACTERS], tabs=".tsv" in file.path.name or ".tab" in file.path.name)
    reader = csv.reader(chain(sample, lines, [END]), **dialect)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, f"not CSV: {error}; what follows is left out"
            return
        if row == [END]:
            return
        if row and row[-1].endswith(END):
            lines_left = reader.line_num - start
            yield start, f"a quotation mark is never closed: the {lines_left} lines from here to the end are left out"
            return
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header = [cell.strip() for cell in row]
            used_names(header, config)
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


def _parquet_rows(file: SourceFile, config: CorpusConfig) -> Iterator[Numbered]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    damage = (pa.ArrowException, OSError, ValueError, EOFError, zlib.error)
    with file.open() as stream:
        try:
            table = pq.ParquetFile(stream, pre_buffer=False)
            sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
            names = table.schema_arrow.names
            used = used_names(names, config)
            columns = [field.name for field in table.schema_arrow if field.name in used or not field.type.num_fields]
        except damage as error:
            raise Unreadable(_parquet_damage(error, file)) from None
        before = 0
        for group, size in enumerate(sizes):
            read_rows = 0
            try:
                rows = _batch_rows(table.metadata.row_group(group))
                for batch in table.iter_batches(batch_size=rows, row_groups=[group], columns=columns):
                    for row in range(batch.num_rows):
                        read_rows += 1
                        record = _record(batch, row, used, file.limit)
                        yield before + read_rows, record if isinstance(record, str) else dict.fromkeys(names) | record
            except damage as error:
                lost = f"rows {before + read_rows + 1} to {before + size} are left out: {_parquet_damage(error, file)}"
                yield before + read_rows + 1, lost
            before += size


def _parquet_damage(error: BaseException, file: SourceFile) -> str:
    if isinstance(error, OSError):
        refuse_machine_error(error, file.path)
    return f"the parquet file cannot be read: {' '.join(str(error).split())[:200]}"


def _batch_rows(group: Any) -> int:
    """How many rows of a row group to hold at a time. A cell is no larger than its column is packed, but every row may
    repeat it: that is how a file of a kilobyte fills a memory."""
    largest = max((group.column(i).total_uncompressed_size for i in range(group.num_columns)), default=1)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, largest)))


def _record(batch: Any, row: int, used: Set[str], limit: int) -> dict[str, Any] | str:
    """One row; or why it is left out, where a cell that becomes part of the document cannot be read."""
    record: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            record[name] = _cell(column[row], limit if name in used else LONGEST_UNUSED)
        except (Unreadable, ValueError, TypeError, OverflowError, KeyError, NotImplementedError) as error:
            if name in used:
                return f"column '{name}': {' '.join(str(error).split())[:200]}"
    return record


def _cell(value: Any, limit: int) -> Any:
    """A cell as Python has it; one that Python has no type for (times in nanoseconds) as text."""
    import pyarrow as pa

    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    if isinstance(value, pa.StringScalar):
        content = value.as_buffer()
        if content is not None and content.size > limit:
            raise Unreadable(too_large(limit))
        return None if content is None else decode_line(content.to_pybytes())
    try:
        return value.as_py()
    except (ValueError, TypeError, OverflowError):
        return value.cast("string").as_py()
