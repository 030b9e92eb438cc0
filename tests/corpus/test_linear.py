"""Small files made to keep a parser busy: each would take a pattern that goes back over what it has seen many minutes,
so that reading them at all is the proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.read import read

SIZE = 2_000_000


def repeated(unit: str) -> str:
    return unit * (SIZE // len(unit))


HOSTILE: dict[str, tuple[str, Callable[[], str]]] = {
    "a tag without end": (".html", lambda: "<" + "a" * SIZE),
    "tags without end": (".html", lambda: repeated("<" + "a" * 50)),
    "scripts without end": (".html", lambda: repeated("<script>")),
    "scripts and styles without end": (".html", lambda: repeated("<script><style>")),
    "scripts that nearly end": (".html", lambda: repeated("<script></script" + " " * 1000)),
    "attributes": (".html", lambda: "<b " + " ".join(f"a{i}" for i in range(SIZE // 8)) + ">x</b>"),
    "groups of options": (".html", lambda: repeated("<optgroup>")),
    "a tag in Markdown": (".md", lambda: "<div>\n<" + "a" * 19_000),
    "scripts in Markdown": (".md", lambda: ("<script>" * 2400 + "\n\n") * 50),
    "a spaced title": (".md", lambda: "---\ntitle: a" + " " * SIZE + "b\n---\ntext"),
    "a role of colons": (".rst", lambda: "`" + ":" * SIZE),
    "a role of spaces": (".rst", lambda: ":a:`" + " " * SIZE + "x"),
    "a link of spaces": (".rst", lambda: "`a" + " " * SIZE + "x"),
    "links without end": (".rst", lambda: repeated("[`x`](")),
    "options of a directive": (".rst", lambda: ".. note::\n" + repeated("  :a:\n")),
    "blank lines in a directive": (".rst", lambda: ".. note:: x\n" + "\n" * SIZE + "  a"),
    "directives in directives": (".rst", lambda: "".join(" " * i + ".. note:: x\n" for i in range(1500))),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_read(case: str, tmp_path: Path) -> None:
    suffix, make = HOSTILE[case]
    (tmp_path / f"a{suffix}").write_text(make())
    items = list(read([tmp_path], CorpusConfig()))
    assert all(isinstance(item, Document) or (isinstance(item, Dropped) and item.reason == "empty") for item in items)
    assert len(items) == 1
