import gzip
import json
from pathlib import Path

import pytest

from corpusmith.errors import EvaluationError
from corpusmith.evaluation.beir import is_beir, read_beir, splits

QUERIES = [
    {"_id": "q1", "text": "heat transfer"},
    {"_id": "q2", "text": "slender wings"},
    {"_id": "q3", "text": "unjudged"},
]
QRELS = "query-id\tcorpus-id\tscore\nq2\td7\t1\nq1\td1\t2\nq1\td2\t0\n"


def beir(folder: Path, queries: list[dict] = QUERIES, qrels: str = QRELS, split: str = "test") -> Path:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    (folder / "qrels" / f"{split}.tsv").write_text(qrels, encoding="utf-8")
    return folder


def test_judged_queries_are_read_in_the_order_of_the_query_file(tmp_path: Path) -> None:
    query_set = read_beir(beir(tmp_path / "aero"))
    assert query_set.name == "aero"
    assert query_set.split == "test"
    assert list(query_set.queries.items()) == [("q1", "heat transfer"), ("q2", "slender wings")]
    assert query_set.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d7": 1}}
    assert query_set.n_judgements == 2
    assert len(query_set) == 2


def test_the_header_is_optional_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    query_set = read_beir(beir(tmp_path, qrels="\nq1\td1\t1\n\n"))
    assert query_set.qrels == {"q1": {"d1": 1}}


def test_queries_may_be_compressed_and_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    text = "\ufeff" + (folder / "queries.jsonl").read_text()
    (folder / "queries.jsonl").unlink()
    (folder / "queries.jsonl.gz").write_bytes(gzip.compress(text.encode("utf-8")))
    assert len(read_beir(folder)) == 2


def test_numbers_as_ids_are_taken_as_text(tmp_path: Path) -> None:
    query_set = read_beir(beir(tmp_path, [{"_id": 7, "text": "wing"}], "7\t12\t1\n"))
    assert query_set.qrels == {"7": {"12": 1}}


def test_queries_without_a_relevant_document_are_left_out_and_told(tmp_path: Path) -> None:
    query_set = read_beir(beir(tmp_path, qrels="q1\td1\t0\nq2\td1\t1\n"))
    assert list(query_set.queries) == ["q2"]
    assert query_set.notes == ("1 judged query has no relevant document and is left out.",)


@pytest.mark.parametrize("text", ["", " \t\n"])
def test_a_judged_query_without_text_is_named(text: str, tmp_path: Path) -> None:
    queries = [*QUERIES, {"_id": "q4", "text": text}]
    assert len(read_beir(beir(tmp_path, queries))) == 2
    with pytest.raises(EvaluationError, match="'q4' has no text"):
        read_beir(beir(tmp_path, queries, f"{QRELS}q4\td1\t1\n"))


def test_queries_that_can_find_nothing_are_told(tmp_path: Path) -> None:
    query_set = read_beir(beir(tmp_path, [*QUERIES, {"_id": "q4", "text": "!!! ???"}], f"{QRELS}q4\td1\t1\n"))
    assert len(query_set) == 3
    assert query_set.notes == ("1 judged query has no letter or digit and finds nothing.",)


def test_a_key_that_a_query_has_twice_is_named(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "queries.jsonl").write_text('\n{"_id": "q1", "text": "heat", "text": "cold"}\n')
    with pytest.raises(EvaluationError, match=r"line 2 .* the key 'text' twice"):
        read_beir(folder)


def test_a_repeated_judgement_keeps_the_higher_grade(tmp_path: Path) -> None:
    assert read_beir(beir(tmp_path, qrels="q1\td1\t1\nq1\td1\t3\nq1\td1\t0\n")).qrels == {"q1": {"d1": 3}}


def test_relevant_documents_that_the_collection_lacks_are_told(tmp_path: Path) -> None:
    query_set = read_beir(beir(tmp_path))
    assert query_set.missing(["d1"]) == ["d7"]
    assert query_set.missing({"d1", "d7"}) == []


def test_a_beir_folder_is_known_by_its_three_parts(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    assert not is_beir(folder)
    (folder / "corpus.jsonl.gz").touch()
    assert is_beir(folder)
    assert splits(beir(folder, split="dev")) == ["dev", "test"]
    for path in (folder / "qrels").iterdir():
        path.unlink()
    assert not is_beir(folder)
    assert not is_beir(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ("q1\td1\n", r"test\.tsv line 1: expected query id, document id and score parted by tabs, found 2 fields"),
        ("q1 d1 1\n", r"line 1: .* found 1 field\."),
        ("q1\td1\t1\nq1\td2\tgood\n", r"line 2: the score 'good' is not a whole number"),
        ("q9\td1\t1\n", r"judges query 'q9', which .*queries\.jsonl does not hold"),
        ("q1\td1\t0\n", "names no relevant document"),
        ("", "names no relevant document"),
    ],
)
def test_bad_judgements_are_refused_with_their_line(tmp_path: Path, qrels: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_beir(beir(tmp_path, qrels=qrels))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"queries\.jsonl line 2 is no JSON"),
        ("[1]", r"line 2: expected an object with '_id' and 'text', found list"),
        ('{"_id": "q2", "query": "x"}', r"line 2: .* found '_id', 'query'"),
        ('{"_id": "q1", "text": "x"}', r"line 2: the query id 'q1' occurs a second time"),
    ],
)
def test_bad_queries_are_refused_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    folder = beir(tmp_path)
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "heat"}\n' + line)
    with pytest.raises(EvaluationError, match=message):
        read_beir(folder)


def test_broken_encoding_and_broken_compression_are_refused(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "queries.jsonl").write_bytes(b'{"_id": "q1", "text": "caf\xe9"}')
    with pytest.raises(EvaluationError, match="is not UTF-8"):
        read_beir(folder)
    (folder / "queries.jsonl").unlink()
    (folder / "queries.jsonl.gz").write_bytes(b"plain")
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_beir(folder)


def test_missing_files_are_named_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no queries\.jsonl"):
        read_beir(tmp_path)
    with pytest.raises(EvaluationError, match=r"no judgements for the split 'train' .*; found test"):
        read_beir(beir(tmp_path), "train")


def test_damaged_compression_and_endless_lines_are_refused(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    text = (folder / "queries.jsonl").read_bytes()
    (folder / "queries.jsonl").unlink()
    packed = bytearray(gzip.compress(text * 100))
    packed[20:40] = bytes(20)
    (folder / "queries.jsonl.gz").write_bytes(packed)
    with pytest.raises(EvaluationError, match=r"queries\.jsonl\.gz cannot be read"):
        read_beir(folder)
    (folder / "queries.jsonl.gz").write_bytes(gzip.compress(b" " * 50_000_000))
    with pytest.raises(EvaluationError, match=r"line 1 is longer than 1,000,000 characters"):
        read_beir(folder)


def test_texts_that_utf8_cannot_hold_are_mended(tmp_path: Path) -> None:
    query_set = read_beir(beir(tmp_path, [{"_id": "q1", "text": "\ud800 heart"}], "q1\td1\t1\n"))
    assert query_set.queries == {"q1": "\ufffd heart"}


def test_judgements_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    folder = beir(tmp_path)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(EvaluationError, match="qrels cannot be read: Permission denied"):
        splits(folder)
