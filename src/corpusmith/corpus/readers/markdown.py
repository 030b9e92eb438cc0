"""Markdown to plain text with markdown-it (CommonMark and tables): what a reader sees, headings kept as '#' lines.

Emphasis, link targets and image paths are typography; code stays, because in technical documents it is what people
search for. The first heading of level one becomes the title (front matter's `title:` wins) and leaves the text, where
it would only repeat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.html import html_to_text
from corpusmith.corpus.readers.links import resolve_links
from corpusmith.corpus.readers.source import SourceFile

if TYPE_CHECKING:
    from markdown_it.token import Token

LARGEST_PARSED = 1_000_000  # characters; beyond it is data, not prose, and parsing takes minutes
LONGEST_PARAGRAPH = 20_000  # characters; the time for nested brackets grows with the square of a paragraph's length

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?)^\1[ \t]*$\n?", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^title[ \t]*+[:=](.*)$", re.MULTILINE | re.IGNORECASE)
_WIKI_LINK = re.compile(r"\[\[([^\[\]|#\n]+)(?:#[^\[\]|\n]*)?(?:\|([^\[\]\n]*))?\]\]")
_HEADING = re.compile(r"^#{1,6}\s", re.MULTILINE)


def read_markdown(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """The file as one document; relative links become ids, [[wiki links]] titles, in `links`.

    Very long files and paragraphs are no prose and too slow to parse: they are taken as they stand.
    """
    source, damage = file.text()
    front_title, source = split_front_matter(source)
    if len(source) <= LARGEST_PARSED and max(map(len, source.split("\n\n"))) <= LONGEST_PARAGRAPH:
        title, text, targets, wiki = markdown_to_text(source)
    else:
        title, text, targets, wiki = "", source, [], []
    links = (*resolve_links(file.id, targets), *dict.fromkeys(wiki))
    yield Document(id=file.id, title=front_title or title, text=text, metadata={"path": file.id}, links=links)
    if damage:
        yield file.dropped(f"{damage}; what came before is kept")


def split_front_matter(source: str) -> tuple[str, str]:
    """(title named in the YAML or TOML front matter or "", source without the front matter)."""
    matter = _FRONT_MATTER.match(source)
    if matter is None:
        return "", source
    named = _TITLE.search(matter[2])
    title = named[1].strip() if named else ""
    if len(title) > 1 and title[0] in "\"'" and title[0] == title[-1]:
        title = title[1:-1].strip()
    return title, source[matter.end() :]


def markdown_to_text(source: str) -> tuple[str, str, list[str], list[str]]:
    """(title, text, link targets, titles of wiki links) of Markdown without front matter."""
    from markdown_it import MarkdownIt

    wiki: list[str] = []

    def unlink(match: re.Match[str]) -> str:
        wiki.append(match[1].strip())
        return (match[2] or match[1]).strip()

    blocks = _Blocks()
    for token in MarkdownIt("commonmark").enable("table").parse(source):
        blocks.add(token)
    title, text = blocks.result()
    return title, _WIKI_LINK.sub(unlink, text), blocks.targets, wiki


class _Blocks:
    """Collects the text of a stream of block tokens."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.targets: list[str] = []
        self.title = ""
        self.level = 0
        self.tight = False
        self.in_cell = False

    def add(self, token: Token) -> None:
        if token.type == "heading_open":
            self.level = int(token.tag[1])
        elif token.type == "heading_close":
            self.level = 0
        elif token.type == "paragraph_open":
            self.tight = token.hidden
        elif token.type in ("tr_open", "table_open", "bullet_list_open", "ordered_list_open"):
            self.parts.append("\n")
        elif token.type in ("th_open", "td_open"):
            self.in_cell = True
        elif token.type in ("th_close", "td_close"):
            self.in_cell = False
        elif token.type in ("fence", "code_block"):
            # A comment line of a program must not pass for a heading.
            self.parts += ["\n\n", _HEADING.sub(lambda match: " " + match[0], token.content.rstrip("\n"))]
        elif token.type == "html_block":
            self.parts += ["\n\n", html_to_text(token.content).text]
        elif token.type == "inline":
            self._add_inline(_inline_text(token.children or (), self.targets).strip())

    def _add_inline(self, text: str) -> None:
        if self.in_cell:
            self.parts += [text, " | "] if text else []
        elif self.level:
            flat = " ".join(text.split())
            if self.level == 1 and not self.title and flat:
                self.title = flat
            elif flat:
                self.parts += ["\n\n", "#" * self.level + " " + flat]
        else:
            self.parts += ["\n" if self.tight else "\n\n", _HEADING.sub(lambda match: " " + match[0], text)]

    def result(self) -> tuple[str, str]:
        text = "".join(self.parts).replace(" | \n", "\n").strip("\n")
        return self.title, re.sub(r"\n{3,}", "\n\n", text).removesuffix(" |")


def _inline_text(tokens: Sequence[Token], targets: list[str]) -> str:
    """The text of inline tokens; targets of links are added to `targets`."""
    parts = []
    for token in tokens:
        if token.type in ("text", "code_inline") or token.type == "image":
            parts.append(token.content)
        elif token.type == "softbreak":
            parts.append(" ")
        elif token.type == "hardbreak":
            parts.append("\n")
        elif token.type == "link_open":
            targets.append(str(token.attrGet("href") or ""))
    return "".join(parts)
