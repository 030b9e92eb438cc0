import errno
import gzip
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.read import READERS, digest_source, read
from corpusmith.corpus.readers.source import SourceFile
from corpusmith.errors import CorpusError, CorpusmithError

TEXT = "A paragraph about waves, which are never still."


def read_all(*paths, **options):
    return list(read(paths, CorpusConfig(**options)))


def ids(items, kind=Document):
    return [item.id for item in items if isinstance(item, kind)]


def write(folder, **files):
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())


def test_a_folder_is_read_in_the_order_of_names_hidden_files_left_out(tmp_path):
    write(tmp_path, b_dot_txt=TEXT, a__z_dot_md=TEXT, a__b__c_dot_html=f"<p>{TEXT}")
    write(tmp_path, _dot_hidden_dot_txt=TEXT, _dot_git__x_dot_txt=TEXT)
    assert ids(read_all(tmp_path)) == ["a/b/c.html", "a/z.md", "b.txt"]


def test_ids_are_paths_below_the_common_root_of_all_paths(tmp_path):
    write(tmp_path, a__x_dot_txt=TEXT, b__x_dot_txt=TEXT)
    assert ids(read_all(tmp_path / "a" / "x.txt")) == ["x.txt"]
    assert ids(read_all(tmp_path / "b", tmp_path / "a" / "x.txt")) == ["b/x.txt", "a/x.txt"]


def sparse(path, head=b""):
    """A file of a hundred gigabytes that takes no space."""
    path.write_bytes(head)
    os.truncate(path, 100 * 10**9)
    return SourceFile(path, path.name, 1000)


def test_of_films_and_of_documents_beyond_the_limit_only_what_decides_is_digested(tmp_path):
    film, other, text = sparse(tmp_path / "a.mp4"), sparse(tmp_path / "b.mp4", b"\0ftyp"), sparse(tmp_path / "a.txt")
    assert len({digest_source(file) for file in (film, other, text)}) == 3
    text.path.write_text("small")
    assert digest_source(text) == text.digest()
    write(tmp_path, packed_dot_txt=gzip.compress(os.urandom(2000)))
    packed = SourceFile(tmp_path / "packed.txt", "packed.txt", 1000)
    assert digest_source(packed) == packed.digest()
    os.mkfifo(tmp_path / "pipe.mp4")
    assert digest_source(SourceFile(tmp_path / "pipe.mp4", "pipe.mp4", 1000)) == "not a regular file"
    assert digest_source(SourceFile(tmp_path / "nowhere.mp4", "nowhere.mp4", 1000)) == ""


def test_a_folder_that_may_not_be_looked_into_is_named_with_the_reason(tmp_path, monkeypatch):
    write(tmp_path, a_dot_txt=TEXT, closed__b_dot_txt=TEXT)
    listdir = os.listdir

    def refusing(path="."):
        if os.fspath(path).endswith("closed"):  # as chmod 000 does for everybody but root
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    document, closed = read_all(tmp_path)
    assert document.id == "a.txt"
    assert (closed.id, closed.reason) == ("closed", "cannot be read: Permission denied")


def test_a_file_named_twice_is_read_once(tmp_path):
    write(tmp_path, a_dot_txt=TEXT)
    assert ids(read_all(tmp_path, tmp_path / "a.txt")) == ["a.txt"]


def test_links_in_circles_end_and_a_linked_copy_is_reported(tmp_path):
    write(tmp_path, a__x_dot_txt=TEXT)
    os.symlink(tmp_path / "a", tmp_path / "a" / "loop")
    os.symlink(tmp_path / "a" / "x.txt", tmp_path / "y.txt")
    os.symlink(tmp_path / "nowhere", tmp_path / "z.txt")
    document, copy, broken = read_all(tmp_path)
    assert document.id == "a/x.txt"
    assert (copy.id, copy.reason) == ("y.txt", "the same file as another: a/x.txt")
    assert broken.reason == "cannot be read: No such file or directory"


@pytest.mark.parametrize("name", ["a\nb.txt", "ünïcode 字.txt", "a'\"\\.txt", "-rf.txt"])
def test_odd_file_names_are_ids_like_any_other(tmp_path, name):
    (tmp_path / name).write_text(TEXT)
    assert ids(read_all(tmp_path)) == [name]


def test_a_file_name_that_is_no_utf8_still_gives_an_id_that_can_be_stored(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"a\xff.txt")).write_text(TEXT)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    (document,) = read_all(tmp_path)
    assert document.id == "a\\xff.txt"
    document.id.encode()


def test_a_missing_path_is_named_before_anything_is_read(tmp_path):
    with pytest.raises(CorpusError, match=r"no such file or folder: .*missing"):
        read([tmp_path, tmp_path / "missing"], CorpusConfig())
    with pytest.raises(CorpusError, match="no documents given"):
        read([], CorpusConfig())


def test_files_that_are_no_documents_are_dropped_once_each_with_the_reason(tmp_path):
    write(
        tmp_path, a_dot_png=b"\x89PNG\0", b_dot_xyz="text", c="text", d_dot_txt="", e_dot_txt=b"ab\0c", f_dot_json="[]"
    )
    reasons = [item.reason for item in read_all(tmp_path)]
    assert reasons[0] == "binary file"
    assert reasons[1].startswith("unknown extension '.xyz': corpusmith reads .csv, ")
    assert reasons[2].startswith("no extension")
    assert reasons[3:5] == ["empty", "binary file"]
    assert reasons[5].startswith("JSON is read as one object a line")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_dropped(tmp_path):
    write(tmp_path, a_dot_txt=TEXT)
    (tmp_path / "a.txt").chmod(0)
    (dropped,) = read_all(tmp_path)
    assert dropped.reason == "cannot be read: Permission denied"


def test_patterns_leave_files_out(tmp_path):
    write(tmp_path, a_dot_txt=TEXT, drafts__b_dot_txt=TEXT, c_dot_log=TEXT)
    assert ids(read_all(tmp_path, exclude=("drafts/*", "*.log"))) == ["a.txt"]


def beir(folder, name="corpus.jsonl"):
    records = [{"_id": f"d{number}", "title": "T", "text": TEXT} for number in range(3)]
    data = "\n".join(map(json.dumps, records)).encode()
    write(
        folder,
        queries_dot_jsonl=json.dumps({"_id": "q1", "text": "?"}),
        qrels__test_dot_tsv="query-id\tcorpus-id\tscore\n",
    )
    (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_of_a_beir_folder_only_the_corpus_is_read(tmp_path, name):
    beir(tmp_path, name)
    assert ids(read_all(tmp_path)) == ids(read_all(tmp_path, source="beir")) == ["d0", "d1", "d2"]


def test_a_beir_folder_read_as_files_is_just_files(tmp_path):
    beir(tmp_path)
    assert ids(read_all(tmp_path, source="files")) == ["d0", "d1", "d2", "q1"]


def test_a_table_that_is_no_document_stops_the_run_only_where_it_matters(tmp_path):
    write(tmp_path, a_dot_txt=TEXT, b__zones_dot_tab="code\tplace\nAD\tAndorra\n")
    document, dropped = read_all(tmp_path)
    assert document.id == "a.txt"
    assert "no 'text' field; found 'code', 'place'" in dropped.reason
    with pytest.raises(CorpusError, match="no 'text' field; found 'code', 'place'"):
        read_all(tmp_path / "b")
    with pytest.raises(CorpusError, match="no 'text' field; found 'code', 'place'"):
        read_all(tmp_path, tmp_path / "b" / "zones.tab")


def test_a_folder_without_corpus_is_no_beir_folder(tmp_path):
    with pytest.raises(CorpusError, match=r"is no BEIR folder: it holds neither corpus.jsonl nor corpus.jsonl.gz"):
        read([tmp_path], CorpusConfig(source="beir"))


def test_a_cut_off_gzip_keeps_what_came_before(tmp_path):
    lines = "\n".join(json.dumps({"text": f"line {number} of words"}) for number in range(200))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-10])
    items = read_all(tmp_path)
    assert len(ids(items)) >= 199
    assert "ends too early" in items[-1].reason


def test_a_single_line_of_many_megabytes_is_one_document(tmp_path):
    text = "word " * 2_000_000
    write(tmp_path, a_dot_txt=text, b_dot_jsonl=json.dumps({"text": text}), c_dot_html=text, d_dot_md=text)
    assert [len(item.text.split()) for item in read_all(tmp_path)] == [2_000_000] * 4


def test_a_document_beyond_the_limit_is_dropped_with_the_option_that_allows_it(tmp_path):
    write(tmp_path, a_dot_txt="word " * 1000)
    (dropped,) = read_all(tmp_path, maximum_document_bytes=1000)
    assert dropped.reason == "larger than 1,000 bytes (corpus.maximum_document_bytes)"


def test_strings_that_utf8_cannot_hold_are_mended(tmp_path):
    write(tmp_path, a_dot_jsonl='{"text": "half \\ud800 whole \\ud83d\\ude00", "id": "\\udfff", "note": "\\ud800"}')
    (document,) = read_all(tmp_path)
    assert document.text == "half \ufffd whole \U0001f600"
    assert document.id == "\ufffd"
    assert document.metadata["note"] == "\ufffd"


def test_reading_stops_at_the_maximum_of_documents(tmp_path):
    write(tmp_path, a_dot_jsonl="\n".join(json.dumps({"text": TEXT}) for _ in range(5)))
    assert len(ids(read_all(tmp_path, maximum_documents=2))) == 2


def test_installed_documentation_takes_no_paths(tmp_path):
    with pytest.raises(CorpusError, match="installed-docs"):
        read([tmp_path], CorpusConfig(source="installed-docs"))


ONCE_FATAL = {
    "an encoding of Python's own": (
        "a.html",
        '<meta charset="idna"><p>Größe und Höhe der Säle</p>'.encode("cp1252"),
    ),
    "another one": ("a.html", '<meta charset="punycode"><p>Größe und Höhe der Säle</p>'.encode("cp1252")),
    "a number without end": ("a.html", f"{'<b>' * 2100}{TEXT} &#{'9' * 5000};".encode()),
    "directives in directives": ("a.rst", "".join(" " * i + ".. note:: x\n" for i in range(1100)).encode()),
}


@pytest.mark.parametrize("case", ONCE_FATAL)
def test_one_odd_file_is_read_and_the_others_too(tmp_path, case):
    name, data = ONCE_FATAL[case]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "b.txt").write_text(TEXT)
    assert ids(read_all(tmp_path)) == [name, "b.txt"]


def test_a_limit_beyond_any_file_is_a_limit_too(tmp_path):
    write(tmp_path, a_dot_csv=f"id,text\n1,{TEXT.replace(',', '')}\n")
    assert ids(read_all(tmp_path, maximum_document_bytes=10**19)) == ["1"]


@pytest.mark.parametrize("error", [ValueError("odd"), RecursionError("deep"), UnicodeError("no code")])
def test_what_no_reader_foresaw_costs_its_file_and_not_the_others(tmp_path, monkeypatch, error):
    def fail(file, config):
        raise error
        yield

    monkeypatch.setitem(READERS, ".md", fail)
    write(tmp_path, a_dot_md=TEXT, b_dot_txt=TEXT)
    dropped, document = read_all(tmp_path)
    assert (dropped.id, document.id) == ("a.md", "b.txt")
    assert dropped.reason == f"cannot be read: {type(error).__name__}: {error}"


SEEDS = {
    ".jsonl": b'{"id": 1, "title": "a", "text": "b"}\n',
    ".csv": b'id,text\n1,"a"\n',
    ".tsv": b"id\ttext\n1\ta\n",
    ".xml": b"<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID></MedlineCitation></PubmedArticle>",
    ".html": b"<html><body><p>a<ul><li>b</body></html>",
    ".md": b"# a\n\n[b](c) ![d](e)\n\n```\nf\n",
    ".rst": b"a\n=\n\n.. note:: b\n\n:: \n\n  c\n",
    ".parquet": b"PAR1\x15\x04\x15PAR1",
    ".pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
}


@pytest.mark.parametrize("suffix", sorted(READERS))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.binary(max_size=300),
    cut=st.integers(0, 80),
    packed=st.booleans(),
    seeded=st.booleans(),
)
def test_whatever_bytes_a_file_holds_it_ends_as_documents_or_dropped(tmp_path, suffix, noise, cut, packed, seeded):
    data = SEEDS.get(suffix, b"text\n\n")[:cut] + noise if seeded else noise
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(data) if packed else data)
    try:
        items = read_all(path)
    except CorpusmithError:
        return
    assert items
    for item in items:
        assert isinstance(item, (Document, Dropped))
        json.dumps(item.metadata if isinstance(item, Document) else item.reason).encode()
        item.id.encode()
        if isinstance(item, Document):
            (item.title + item.text).encode()
            assert (item.title + item.text).strip()
