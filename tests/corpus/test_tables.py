from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmith.corpus import tables
from corpusmith.corpus.tables import ROWS_PER_GROUP, Table, TableWriter
from corpusmith.errors import ArtefactError

SCHEMA = pa.schema([pa.field("number", pa.int64(), nullable=False), pa.field("name", pa.string())])


def write(path, rows):
    writer = TableWriter(path, SCHEMA)
    for row in range(rows):
        writer.append(row, f"name {row}")
    writer.close()
    return Table(path, SCHEMA)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tables") / "t.parquet", 2 * ROWS_PER_GROUP + 10)


@given(rows=st.lists(st.integers(0, 2 * ROWS_PER_GROUP + 9), max_size=30))
@settings(max_examples=30, deadline=None)
def test_rows_are_taken_in_the_order_asked_for(table, rows):
    assert table.take(np.array(rows, dtype=np.int64)) == [(row, f"name {row}") for row in rows]


@given(start=st.integers(0, 600), stop=st.integers(0, 600) | st.none())
@settings(max_examples=30, deadline=None)
def test_a_scan_gives_the_rows_of_a_range(table, start, stop):
    expected = range(len(table))[start:stop]
    assert [(row, values[0]) for row, values in table.scan(start, stop)] == [(row, row) for row in expected]


@pytest.mark.parametrize("rows", [0, 1, ROWS_PER_GROUP])
def test_tables_of_any_length_can_be_read(tmp_path, rows):
    table = write(tmp_path / "t.parquet", rows)
    assert len(table) == rows
    assert table.column("number") == list(range(rows))


def test_only_the_groups_used_last_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CACHED_BYTES", 20_000)
    table = write(tmp_path / "t.parquet", 9 * ROWS_PER_GROUP)
    for row in range(0, len(table), ROWS_PER_GROUP):
        table.take(np.array([row]))
    kept = sum(group.nbytes for group in table._groups.values())
    assert list(table._groups) == list(range(9))[-len(table._groups) :]
    assert 20_000 - max(group.nbytes for group in table._groups.values()) < kept <= 20_000


def test_groups_of_long_rows_have_fewer_and_one_alone_is_kept_whatever_its_size(tmp_path, monkeypatch):
    writer = TableWriter(tmp_path / "t.parquet", SCHEMA)
    for row in range(6):
        writer.append(row, "x" * (tables.CHARACTERS_PER_GROUP // 2))
    writer.close()
    monkeypatch.setattr(tables, "CACHED_BYTES", 1000)
    table = Table(tmp_path / "t.parquet", SCHEMA)
    assert [number for number, _ in table.take(np.arange(6))] == list(range(6))
    assert pq.ParquetFile(tmp_path / "t.parquet").metadata.num_row_groups == 3
    assert len(table._groups) == 1


def test_rows_that_do_not_exist_are_refused(table):
    for row in (-1, len(table)):
        with pytest.raises(IndexError, match=r"t\.parquet"):
            table.take(np.array([row]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"t\.parquet is missing; build"):
        Table(tmp_path / "t.parquet", SCHEMA)


def test_a_file_cut_short_is_named(tmp_path):
    write(tmp_path / "t.parquet", 100)
    path = tmp_path / "t.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtefactError, match=r"t\.parquet is damaged"):
        Table(path, SCHEMA)


def test_a_damaged_row_group_is_named_when_it_is_read(tmp_path):
    write(tmp_path / "t.parquet", 100)
    path = tmp_path / "t.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    table = Table(path, SCHEMA)
    with pytest.raises(ArtefactError, match=r"t\.parquet is damaged"):
        table.take(np.array([3]))


def test_a_table_of_other_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"other": [1]}), tmp_path / "t.parquet")
    with pytest.raises(ArtefactError, match="has the columns other where number, name belong"):
        Table(tmp_path / "t.parquet", SCHEMA)


FAILING = """
import os, resource, sys
from pathlib import Path
import pyarrow as pa
from corpusmith.corpus.tables import TableWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
writer = TableWriter(Path(sys.argv[1]), pa.schema([pa.field("name", pa.string())]))
writer.append(os.urandom(1000).hex())
for _ in range(2):
    try:
        writer.close()
    except OSError:
        print("refused")
del writer
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes are limited by POSIX")
def test_a_file_that_cannot_be_completed_is_reported_once(tmp_path):
    ended = subprocess.run([sys.executable, "-c", FAILING, tmp_path / "t.parquet"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "refused\n", "")


@pytest.mark.parametrize("name", ["run:1", "file:t", "~", "~root"])
def test_a_name_is_that_of_a_file_whatever_else_it_could_be(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write(Path(name), 3).take(np.array([2])) == [(2, "name 2")]
    assert (tmp_path / name).is_file()
