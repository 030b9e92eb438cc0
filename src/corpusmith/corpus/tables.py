"""Parquet tables written row by row and read at random.

Parquet stores rows in groups that are compressed column by column; a group is the least that can be read. Groups of 256
passages take a quarter of the time to read that groups of 1,000 take (measured: 2 to 4 ms against 7 to 15, on a busy
machine), and their file is 3% larger. Where rows are long, groups have fewer. The groups that were read last are kept,
because neighbours are often asked for together.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpusmith.errors import ArtefactError

ROWS_PER_GROUP, CHARACTERS_PER_GROUP = 256, 2**19
"""A group is complete with so many rows, or with rows of so many characters."""
CACHED_BYTES = 2**24
"""Of groups that are kept, beside the last one."""

Row = tuple[Any, ...]
"""The values of one row in the order of the schema."""


class TableWriter:
    """Appends rows to a parquet file; memory holds one row group."""

    def __init__(self, path: Path, schema: pa.Schema):
        self._schema = schema
        self._rows: list[Row] = []
        self._characters = 0
        place = path.absolute()  # or the library takes run:1 for a URI and ~ for somebody's home
        self._writer = pq.ParquetWriter(place, schema, compression="zstd", write_statistics=False)

    def append(self, *values: Any) -> None:
        """Add one row, its values in the order of the schema."""
        self._rows.append(values)
        self._characters += sum(len(value) for value in values if isinstance(value, str))
        if len(self._rows) == ROWS_PER_GROUP or self._characters >= CHARACTERS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the last rows and complete the file; closing again does nothing, also where it failed."""
        if self._writer.is_open:
            try:
                self._flush()
                self._writer.close()
            finally:
                self._writer.is_open = False  # or the library tries once more as it is collected, and prints what fails

    def _flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(values, type=field.type)
                for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
            self._rows, self._characters = [], 0


class Table:
    """A parquet file of a known schema, read at random by row or streamed."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.path = path
        try:
            self._file = pq.ParquetFile(path.absolute(), memory_map=True)
        except FileNotFoundError:
            raise ArtefactError(f"{path} is missing; build the corpus again") from None
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        if self._file.schema_arrow.names != schema.names or self._file.schema_arrow.types != schema.types:
            raise ArtefactError(
                f"{path} has the columns {', '.join(self._file.schema_arrow.names)} where "
                f"{', '.join(schema.names)} belong; it was not written by this version, build the corpus again"
            )
        groups = self._file.metadata.num_row_groups
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(groups)]
        self._starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
        self._groups: OrderedDict[int, pa.Table] = OrderedDict()
        self._kept = 0  # bytes of these groups

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: np.ndarray) -> list[Row]:
        """The rows asked for, in that order; each row group is read once."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"row {rows.min()} or {rows.max()} of {len(self)} rows in {self.path.name}")
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        found: list[Row] = [()] * len(rows)
        for group in np.unique(groups):
            places = np.flatnonzero(groups == group)
            part = self._group(int(group)).take(pa.array(rows[places] - self._starts[group]))
            for place, values in zip(places, _values(part), strict=True):
                found[place] = values
        return found

    def scan(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Row]]:
        """Stream the rows from `start` to `stop` (exclusive), each with its number; groups are read in turn."""
        stop = len(self) if stop is None else min(stop, len(self))
        for group in range(len(self._starts) - 1):
            first, end = int(self._starts[group]), int(self._starts[group + 1])
            begin, finish = max(start, first), min(stop, end)
            if begin < finish:
                part = self._read(group).slice(begin - first, finish - begin)
                yield from enumerate(_values(part), start=begin)

    def column(self, name: str) -> list[Any]:
        """All values of one column."""
        return self.raw_column(name).to_pylist()

    def is_null(self, name: str) -> np.ndarray:
        """Where one column has no value, bool `[rows]`."""
        return self.raw_column(name).is_null().to_numpy()

    def raw_column(self, name: str) -> pa.ChunkedArray:
        """All values of one column as Arrow holds them."""
        try:
            return self._file.read(columns=[name]).column(name)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None

    def _group(self, group: int) -> pa.Table:
        if group not in self._groups:
            self._groups[group] = self._read(group)
            self._kept += self._groups[group].nbytes
            while len(self._groups) > 1 and self._kept > CACHED_BYTES:
                self._kept -= self._groups.popitem(last=False)[1].nbytes
        self._groups.move_to_end(group)
        return self._groups[group]

    def _read(self, group: int) -> pa.Table:
        try:
            return self._file.read_row_group(group)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> ArtefactError:
        return ArtefactError(f"{self.path} is damaged ({str(error).splitlines()[0]}); build the corpus again")


def _values(table: pa.Table) -> Iterator[Row]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
