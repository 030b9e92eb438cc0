import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith.corpus import lines as module
from corpusmith.corpus.lines import Lines
from corpusmith.errors import CorpusError


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one", ["one"]),
        (b"one\n\ntwo\r\n", ["one", "", "two"]),
        ("line\u2028still one\n".encode(), ["line\u2028still one"]),
        (b"bro\xffken\n", ["bro\ufffdken"]),
    ],
)
def test_only_a_newline_ends_a_line(content: bytes, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert list(Lines.open(tmp_path / "a.txt")) == list(Lines(content)) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1), st.integers(1, 9))
def test_lines_are_those_written_whatever_the_block(written: list[str], block: int) -> None:
    before, module.BLOCK = module.BLOCK, block
    try:
        found = Lines("".join(f"{line}\n" for line in written).encode())
    finally:
        module.BLOCK = before
    assert found[:] == written
    assert found[-1] == written[-1]
    assert found[1:3] == written[1:3]


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo")
    assert Lines.open(tmp_path / "a.txt").digest() == Lines(b"one\ntwo").digest() != Lines(b"one\ntwo\n").digest()


def shorten(path: Path) -> None:
    os.truncate(path, 5)


def extend(path: Path) -> None:
    with path.open("a") as file:
        file.write("more\n")


@pytest.mark.parametrize("change", [shorten, extend])
def test_a_file_that_changes_while_it_is_read_is_named(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a line of text\n" * 100_000)
    lines = Lines.open(path)
    assert lines[-1] == "a line of text"
    change(path)
    with pytest.raises(CorpusError, match=r"a\.txt changed while it was being read"):
        lines[50_000:]
    with pytest.raises(CorpusError, match=r"a\.txt changed while it was being read"):
        lines.digest()
