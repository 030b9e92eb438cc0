import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers import jsonl
from corpusmith.corpus.readers.source import SourceFile
from corpusmith.errors import CorpusError


def read_lines(folder, *lines, **options):
    path = folder / "a.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    config = CorpusConfig(**options)
    return list(jsonl.read_jsonl(SourceFile(path, "a.jsonl", config.maximum_document_bytes), config))


def test_fields_become_a_document(tmp_path):
    record = {"_id": 7, "title": "T", "text": "words", "year": 1999, "long": "x" * 501, "links": ["a", "b"]}
    assert read_lines(tmp_path, record) == [
        Document("7", "T", "words", {"year": 1999, "path": "a.jsonl", "line": 1}, ("a", "b"))
    ]


@pytest.mark.parametrize(
    "record",
    [{"body": "w"}, {"Content": "w"}, {"abstract": "w"}, {"passage": "w", "headline": ""}, {"text": ["w"]}],
)
def test_common_field_names_are_recognised(tmp_path, record):
    (document,) = read_lines(tmp_path, record)
    assert document.text == "w"


def test_configured_fields_win_over_common_names(tmp_path):
    record = {"text": "no", "id": "no", "title": "no", "inhalt": "yes", "nr": "9", "kopf": "head"}
    (document,) = read_lines(tmp_path, record, text_field="inhalt", id_field="nr", title_field="kopf")
    assert (document.id, document.title, document.text) == ("9", "head", "yes")


def test_records_without_id_are_called_after_file_and_line(tmp_path):
    documents = read_lines(tmp_path, {"text": "one"}, b"", {"text": "two", "id": None})
    assert [document.id for document in documents] == ["a.jsonl#1", "a.jsonl#3"]


def test_a_bad_line_is_dropped_with_its_number_and_the_others_are_read(tmp_path):
    good, broken, array, no_text, odd = read_lines(
        tmp_path, {"text": "fine"}, b'{"text": ', b"[1]", {"x": 1}, {"text": {"a": 1}}
    )
    assert isinstance(good, Document)
    assert broken.source.endswith("a.jsonl line 2")
    assert broken.reason.startswith("not JSON: ")
    assert array.reason == "not a JSON object but a list"
    assert no_text.reason == "no 'text' field; found 'x' (set corpus.text_field = 'x')"
    assert odd.reason == "field 'text' holds a dict, not text"


def test_a_file_in_which_no_line_has_a_text_stops_the_run_and_names_the_field_that_is_meant(tmp_path):
    with pytest.raises(
        CorpusError, match=r"a\.jsonl line 1: no 'text' field; found 'n', 'inhalt' \(set corpus.text_field = 'inhalt'\)"
    ):
        read_lines(tmp_path, {"n": "1", "inhalt": "a longer text"}, {"n": "2"})


def test_deep_nesting_is_dropped_not_a_crash(tmp_path):
    deep, good = read_lines(tmp_path, b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {"text": "fine"})
    assert deep.reason == "not JSON that can be read: nested too deeply"
    assert good.text == "fine"


def test_a_line_beyond_the_limit_is_dropped(tmp_path):
    huge, good = read_lines(tmp_path, {"text": "x" * 2000}, {"text": "fine"}, maximum_document_bytes=1000)
    assert huge.reason == "larger than 1,000 bytes (corpus.maximum_document_bytes)"
    assert good.text == "fine"


def test_a_json_file_is_dropped_with_the_way_to_convert_it(tmp_path):
    (dropped,) = jsonl.refuse_json(SourceFile(tmp_path / "a.json", "a.json", 1000), CorpusConfig())
    assert "jq -c '.[]'" in dropped.reason


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.lists(st.dictionaries(st.sampled_from(["id", "title", "text", "links", "other"]), values), max_size=5))
def test_every_record_ends_as_document_or_dropped_with_strict_json_metadata(tmp_path_factory, records):
    records = [{"text": "there is one"}, *records]
    items = read_lines(tmp_path_factory.mktemp("records"), *records)
    assert len(items) == len(records)
    for item in items:
        assert isinstance(item, (Document, Dropped))
        assert isinstance(item.id, str)
        if isinstance(item, Document):
            json.dumps(item.metadata, allow_nan=False)


def test_a_key_that_is_there_twice_is_no_silent_loss(tmp_path):
    (dropped,) = read_lines(tmp_path, b'{"text": "first", "text": "second"}')
    assert dropped.reason == "not JSON: an object has the key 'text' twice"


def test_a_line_of_braces_is_not_built_in_memory_and_a_long_text_is_read(tmp_path):
    braces = b'{"text": "words", "x": [' + b"{}," * 2_000_000 + b"{}]}"
    dropped, document = read_lines(tmp_path, braces, {"text": '{}, \\"' * 1_000_000})
    assert dropped.reason.startswith("not JSON that can be read: more than 5,000,000 bytes of it are neither")
    assert len(document.text) == 6_000_000
