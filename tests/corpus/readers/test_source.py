import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus.readers.source import SourceFile, Unreadable, decode, decode_line, guess_encoding


def source_of(folder: Path, data: bytes, name: str = "a.txt", limit: int = 100_000) -> SourceFile:
    path = folder / name
    path.write_bytes(data)
    return SourceFile(path, name, limit)


GERMAN = "Das Mädchen läuft über die Straße und hört schöne Musik in der Größe eines Gebäudes."
RUSSIAN = "Это обычный русский текст в старой кодировке, и он достаточно длинный, чтобы её узнать."
JAPANESE = "これは日本語のテキストです。文字コードはシフトJISです。東京は日本の首都です。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "utf-8"),
        (GERMAN, "utf-8-sig"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-32"),
        (GERMAN, "latin-1"),
        (RUSSIAN, "cp1251"),
        (JAPANESE, "cp932"),
    ],
)
def test_text_in_common_encodings_is_decoded(text, encoding):
    assert decode(text.encode(encoding)) == text


def test_one_broken_byte_does_not_turn_utf8_into_another_encoding():
    damaged = GERMAN.encode() + b"\xff" + GERMAN.encode()
    assert decode(damaged) == f"{GERMAN}\ufffd{GERMAN}"


def test_a_declared_encoding_is_believed_where_the_text_is_not_utf8():
    assert guess_encoding("щука".encode("koi8_r"), declared="koi8_r") == "koi8_r"
    assert guess_encoding("щука".encode(), declared="koi8_r") == "utf-8"
    assert decode(GERMAN.encode("latin-1"), declared="no such encoding") == GERMAN


@given(st.text(min_size=1))
def test_utf8_text_comes_back_unless_it_looks_binary(text):
    text = text.replace("\r", " ").removeprefix("\ufeff")
    try:
        assert decode(text.encode()) == text
    except Unreadable:
        assert any(ord(character) < 32 for character in text) or text.startswith("%PDF-")


@pytest.mark.parametrize("data", [b"abc\0def", bytes(range(1, 32)) * 10, b"%PDF-1.7 text", b"\x89PNG\r\n\x1a\n\0"])
def test_binary_data_is_told_apart_from_text(data):
    with pytest.raises(Unreadable, match="binary file"):
        decode(data)


def test_a_line_with_little_damage_is_kept_and_one_with_much_is_not():
    assert decode_line(b"caf\xe9 au lait") == "caf\ufffd au lait"
    with pytest.raises(Unreadable, match="broken UTF-8: 4 of 8 characters"):
        decode_line(b"ab\xff\xffcd\xff\xff")


@given(st.lists(st.binary(max_size=50).map(lambda line: line.replace(b"\n", b"").replace(b"\0", b"x"))))
def test_lines_are_those_of_the_file(tmp_path_factory, lines):
    lines = [b"ascii: " + bytes(byte % 96 + 32 for byte in line) for line in lines]
    data = b"\n".join(lines)
    source = source_of(tmp_path_factory.mktemp("lines"), data)
    if not data:
        with pytest.raises(Unreadable, match="empty"):
            list(source.lines())
    else:
        assert list(source.lines()) == list(enumerate(lines, 1))


def test_a_line_beyond_the_limit_is_none_and_the_next_one_is_read(tmp_path):
    source = source_of(tmp_path, b"a" * 5000 + b"\nshort\n" + b"b" * 3_000_000, limit=4999)
    assert list(source.lines()) == [(1, None), (2, b"short"), (3, None)]


def test_utf16_lines_are_utf8_lines(tmp_path):
    source = source_of(tmp_path, "eins ä\nzwei ö".encode("utf-16"))
    assert list(source.lines()) == [(1, "eins ä".encode()), (2, "zwei ö".encode())]


def test_gzip_is_known_by_its_content_not_by_its_name(tmp_path):
    assert source_of(tmp_path, gzip.compress(b"text"), "packed.txt").text() == ("text", None)
    assert source_of(tmp_path, b"text", "plain.txt.gz").text() == ("text", None)


def test_a_file_that_unpacks_beyond_the_limit_is_refused(tmp_path):
    bomb = source_of(tmp_path, gzip.compress(b"a" * 1_000_000), "bomb.txt.gz", limit=10_000)
    with pytest.raises(Unreadable, match=r"larger than 10,000 bytes \(corpus.maximum_document_bytes\)"):
        bomb.text()


def test_what_came_before_the_end_of_a_cut_off_gzip_is_kept(tmp_path):
    packed = gzip.compress(b"the first words and the last")
    text, damage = source_of(tmp_path, packed[:-6], "cut.txt.gz").text()
    assert text == "the first words and the last"
    assert "ends too early" in str(damage)


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(Unreadable, match="not a regular file"):
        SourceFile(tmp_path / "pipe.txt", "pipe.txt", 1000).open()


def test_the_encoding_is_told_by_the_first_piece_that_is_not_ascii(tmp_path):
    late = b"plain words\n" * 200_000 + f"{GERMAN}\n".encode("cp1252") * 500
    *_, (_, last) = source_of(tmp_path, late, limit=10_000).lines()
    assert last == GERMAN.encode()
    late = b"plain words\n" * 200_000 + f"{GERMAN}\n".encode() * 500
    *_, (_, last) = source_of(tmp_path, late, limit=10_000).lines()
    assert last == GERMAN.encode()
