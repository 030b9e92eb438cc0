import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.base import Document
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.source import SourceFile, Unreadable
from corpusmith.corpus.readers.tables import read_csv, read_parquet, sniff
from corpusmith.errors import CorpusError


def read_table(folder, text, name="a.csv", **options):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    reader = read_parquet if name.endswith("parquet") else read_csv
    config = CorpusConfig(**options)
    return list(reader(SourceFile(path, name, config.maximum_document_bytes), config))


def test_quoted_fields_hold_delimiters_newlines_and_quotes(tmp_path):
    (document,) = read_table(tmp_path, 'id,Title,Text\n1,"a, b","two\nlines and ""quotes"""\n')
    assert document == Document("1", "a, b", 'two\nlines and "quotes"', {"path": "a.csv", "line": 2})


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path, delimiter):
    rows = [
        ["id", "text", "n"],
        ["1", "one word", "2"],
        ["2", "another, with a comma" if delimiter != "," else "x", "3"],
    ]
    documents = read_table(tmp_path, "\n".join(delimiter.join(row) for row in rows))
    assert [document.text for document in documents] == [row[1] for row in rows[1:]]


def test_a_stray_quotation_mark_in_tsv_swallows_nothing(tmp_path):
    documents = read_table(tmp_path, 'id\ttext\n1\t"starts quoted\n2\the said "no\n', "a.tsv")
    assert [document.text for document in documents] == ['"starts quoted', 'he said "no']


def test_tsv_with_quoting_is_unquoted():
    assert sniff('"id"\t"text"\n"1"\t"a\tb"\n', tabs=True) == {"delimiter": "\t"}


def test_a_row_with_too_many_fields_is_dropped_and_a_short_one_is_not(tmp_path):
    long, short = read_table(tmp_path, "id,text,note\n1,a,b,c\n2,two\n")
    assert long.source.endswith("a.csv line 2")
    assert long.reason == "4 fields where the header has 3"
    assert short.text == "two"


def test_a_table_without_text_column_names_the_columns(tmp_path):
    with pytest.raises(
        CorpusError, match=r"no 'text' field; found 'nr', 'inhalt' \(set corpus.text_field = 'inhalt'\)"
    ):
        read_table(tmp_path, "nr,inhalt\n1,a longer text\n")


def test_a_cell_longer_than_pythons_own_limit_is_read(tmp_path):
    (document,) = read_table(tmp_path, f'id,text\n1,"{"word " * 100_000}"\n')
    assert len(document.text) == 500_000


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5))
def test_what_python_writes_as_csv_is_read_back(tmp_path_factory, rows):
    import csv
    import io

    rows = [[cell.replace("\r", "").replace("\0", "").strip() or "x" for cell in row] for row in rows]
    rows = [["".join(c for c in cell if c >= " " or c == "\n") or "x" for cell in row] for row in rows]
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([["id", "text"], *rows])
    documents = read_table(tmp_path_factory.mktemp("csv"), written.getvalue())
    assert [[document.id, document.text] for document in documents] == rows


def test_parquet_values_of_other_types_become_text(tmp_path):
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int64()),
            "text": pa.array(["eins", None], pa.large_string()),
            "title": pa.array([decimal.Decimal("1.5"), None], pa.decimal128(5, 1)),
            "day": pa.array([datetime.date(2020, 1, 2)] * 2),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "time": pa.array([1, 2], pa.timestamp("ns")),
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    one, two = read_parquet(SourceFile(path, "a.parquet", 1000), CorpusConfig())
    assert one == Document("1", "1.5", "eins", {"kind": "a", "path": "a.parquet", "row": 1})
    assert two.text == ""


def test_parquet_with_a_struct_for_a_text_is_dropped_row_by_row(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [{"a": 1}]}), path)
    (dropped,) = read_parquet(SourceFile(path, "a.parquet", 1000), CorpusConfig())
    assert dropped.reason == "field 'text' holds a dict, not text"


def test_damaged_parquet_is_unreadable_with_the_reason(tmp_path):
    pq.write_table(pa.table({"text": ["word " * 100] * 100}), tmp_path / "good.parquet")
    data = (tmp_path / "good.parquet").read_bytes()
    with pytest.raises(Unreadable, match="the parquet file cannot be read"):
        read_table(tmp_path, data[:-20], "a.parquet")


def test_a_quotation_mark_that_is_never_closed_is_told_with_all_that_it_swallows(tmp_path):
    rows = "".join(f"{number},words\n" for number in range(3, 502))
    good, swallowed = read_table(tmp_path, f'id,text\n1,"closed\nwell"\n2,"open\n{rows}')
    assert good.text == "closed\nwell"
    assert swallowed.source.endswith("a.csv line 4")
    assert swallowed.reason == "a quotation mark is never closed: the 500 lines from here to the end are left out"


def test_two_columns_of_one_name_are_refused_where_they_would_be_read(tmp_path):
    with pytest.raises(Unreadable, match="2 columns are called 'text': rename all but one"):
        read_table(tmp_path, "id,text,text\n1,a,b\n")
    assert read_table(tmp_path, "id,text,note,note\n1,a,b,c\n")[0].text == "a"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "x.parquet")
    with pytest.raises(Unreadable, match="2 columns are called 'text'"):
        read_table(tmp_path, (tmp_path / "x.parquet").read_bytes(), "a.parquet")


def parquet(folder, **columns):
    pq.write_table(pa.table(columns), folder / "x.parquet")
    return read_table(folder, (folder / "x.parquet").read_bytes(), "a.parquet")


def not_utf8(values):
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), binary.buffers())


def test_a_broken_cell_costs_its_row_alone_and_nothing_where_it_is_not_read(tmp_path):
    cells = [b"words"] * 1000
    cells[300] = b"\xff\xfe\xff"
    items = parquet(tmp_path, text=not_utf8(cells))
    assert [item.reason for item in items if not isinstance(item, Document)] == [
        "column 'text': broken UTF-8: 3 of 3 characters"
    ]
    assert items[300].source.endswith("a.parquet row 301")
    assert len(items) == 1000
    documents = parquet(tmp_path, text=["words"] * 1000, note=not_utf8(cells))
    assert [document.metadata.get("note") for document in documents[299:302]] == ["words", None, "words"]


def test_a_column_that_is_not_read_may_hold_what_nobody_can_read(tmp_path):
    when = pa.array([1, 2], pa.timestamp("us", tz="Mars/Olympus"))
    assert [document.text for document in parquet(tmp_path, text=["one", "two"], when=when)] == ["one", "two"]


def test_damage_inside_a_parquet_file_costs_its_rows_and_says_which(tmp_path):
    texts = [f"text {number} " + "x" * 50 for number in range(300)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet", row_group_size=100, use_dictionary=False)
    group = pq.ParquetFile(tmp_path / "x.parquet").metadata.row_group(1).column(0)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[group.data_page_offset : group.data_page_offset + 200] = bytes(200)
    items = read_table(tmp_path, bytes(data), "a.parquet")
    (lost,) = (item for item in items if not isinstance(item, Document))
    assert lost.reason.startswith("rows 101 to 200 are left out: the parquet file cannot be read")
    assert len(items) == 201


@pytest.mark.parametrize("stored", [True, False])
def test_cells_repeated_many_times_are_held_once(tmp_path, stored):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": pa.array(["x y" * 5_000_000] * 256).dictionary_encode()})
    pq.write_table(table, path, compression="zstd", store_schema=stored)
    del table
    assert path.stat().st_size < 10_000
    items = read_parquet(SourceFile(path, "a.parquet", 1_000_000), CorpusConfig())
    before, most = pa.total_allocated_bytes(), 0
    for item in items:
        assert "larger than 1,000,000 bytes" in item.reason
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 20 * 15_000_000
