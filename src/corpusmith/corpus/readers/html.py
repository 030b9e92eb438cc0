"""HTML to plain text with selectolax (lexbor): main text without the furniture of a site, headings as '#' lines.

The tree is rewritten rather than walked: blocks get a mark before and behind them, headings are replaced by their line,
and then the text of the whole tree is taken at once. That keeps the layout rules in two tables and costs one pass in C.

An HTML parser needs time that grows with the square of the nesting, so a page nested beyond what any browser builds is
not parsed: its tags are stripped. The same goes for the attributes of one tag: a tag longer than any that people write
loses them. Every pattern runs in time linear in the page, whatever it leaves open.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.links import resolve_links
from corpusmith.corpus.readers.source import SourceFile, decode

FURNITURE = (
    "script, style, noscript, template, nav, footer, svg, math annotation, iframe, object, canvas, button, select, "
    "textarea, dialog, [hidden], [aria-hidden=true], [role=navigation], [role=banner], [role=search], a.headerlink"
)
LINES = "br, li, tr, dt, dd, option"
BLOCKS = (
    "p, div, section, article, main, header, aside, ul, ol, dl, table, caption, figure, figcaption, blockquote, "
    "address, form, fieldset, details, summary, hr"
)
MAIN_SHARE = 1 / 3  # of the body's text: less than that, and <main> or <article> is only a part of what matters
LINE, BLOCK, KEPT_LINE = "\x1d", "\x1e", "\x1c"  # marks; removed from the source first

_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([A-Za-z0-9_\-]{2,30})""", re.IGNORECASE)
DEEPEST = 512  # nested elements, where browsers stop too
NEVER_NESTED = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
    "p", "li", "td", "tr", "th", "dt", "dd", "option", "tbody", "thead", "tfoot", "colgroup",
    "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "use", "stop",
}  # fmt: skip

_SPACES = re.compile(r"\s{2,}|[^\S ]")
_TAG = re.compile(r"<(/?)([a-zA-Z][\w:-]*+)[^<>]*+>")
_LONG_TAG = re.compile(r"<([a-zA-Z][\w:-]*+)[^<>]{10000,}+>")
_LONG_NUMBER = re.compile(r"&#[0-9]{20,}+;?")  # no character has it, and Python counts no further than 4,300 digits
_SCRIPT = re.compile(r"<(script|style)\b[^<>]*+>", re.IGNORECASE)
_SCRIPT_ENDS = {name: re.compile(rf"</{name}\s*+>", re.IGNORECASE) for name in ("script", "style")}
_MARKS = re.compile("[\x1c-\x1e]")


@dataclass(frozen=True, slots=True)
class HtmlText:
    """What an HTML page says: `targets` are the href values of its main text."""

    title: str
    text: str
    targets: tuple[str, ...]


def read_html(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """The page as one document; relative links become ids in `links`."""
    data, damage = file.whole()
    declared = _DECLARED.search(data[:2048])
    page = html_to_text(decode(data, declared[1].decode() if declared else None))
    links = resolve_links(file.id, page.targets)
    yield Document(id=file.id, title=page.title, text=page.text, metadata={"path": file.id}, links=links)
    if damage:
        yield file.dropped(f"{damage}; what came before is kept")


def html_to_text(source: str) -> HtmlText:
    """Title, main text and link targets of a page or a fragment; entities are decoded, empty input gives empty text."""
    from selectolax.lexbor import LexborHTMLParser

    source = _LONG_TAG.sub(r"<\1>", _without_scripts(_MARKS.sub(" ", source)))
    if nesting(source) > DEEPEST:
        return HtmlText("", _flat(html.unescape(_LONG_NUMBER.sub("\ufffd", _TAG.sub(" ", source)))), ())
    tree = LexborHTMLParser(source)
    body = tree.body
    if body is None:
        return HtmlText("", "", ())
    head_title = _flat(node.text() if (node := tree.css_first("title")) else "")
    for node in body.css(FURNITURE):
        node.decompose()
    main = body.css_first("main") or body.css_first("article")
    if main is None or len(main.text()) < MAIN_SHARE * len(body.text()):
        main = body
    targets = tuple(href for node in main.css("a[href]") if (href := node.attributes.get("href")))
    first_heading = main.css_first("h1")
    heading = _flat(first_heading.text()) if first_heading else ""
    # A page's <title> often carries the site's name behind the page's own.
    title = heading if heading and (not head_title or heading in head_title) else head_title
    if first_heading and heading == title:
        first_heading.replace_with(BLOCK)
    _mark_layout(main)
    return HtmlText(title, _lay_out(main.text()), targets)


def nesting(source: str) -> int:
    """How deep elements may be nested, at most: opening tags not yet closed, those that close themselves left out."""
    depth = deepest = 0
    for closing, name in _TAG.findall(source):
        if name.lower() not in NEVER_NESTED:
            depth = max(0, depth - 1) if closing else depth + 1
            deepest = max(deepest, depth)
    return deepest


def _without_scripts(source: str) -> str:
    """The page without its scripts and styles; one that is never closed stays, for the parser to judge."""
    kept: list[str] = []
    unclosed: set[str] = set()  # asked once a page: what does not end after one place does not after a later one either
    copied = at = 0
    while opening := _SCRIPT.search(source, at):
        name, at = opening[1].lower(), opening.end()
        closing = None if name in unclosed else _SCRIPT_ENDS[name].search(source, at)
        if closing is None:
            unclosed.add(name)
        else:
            kept += [source[copied : opening.start()], " "]
            copied = at = closing.end()
    return "".join([*kept, source[copied:]])


def _mark_layout(main) -> None:  # type: ignore[no-untyped-def]  # selectolax's node class is a C extension's
    for node in main.css("pre"):
        node.replace_with(BLOCK + node.text().strip("\n").replace("\n", KEPT_LINE) + BLOCK)
    for level in range(1, 7):
        for node in main.css(f"h{level}"):
            heading = _flat(node.text())
            node.replace_with(f"{BLOCK}{'#' * level} {heading}{BLOCK}" if heading else BLOCK)
    for node in main.css("td, th"):
        node.insert_after(" ")
    for selector, mark in ((LINES, LINE), (BLOCKS, BLOCK)):
        for node in main.css(selector):
            node.insert_before(mark)
            node.insert_after(mark)


def _lay_out(marked: str) -> str:
    """Turn marks into line breaks, all other white space (outside <pre>) into single spaces."""
    blocks = []
    for block in marked.split(BLOCK):
        if KEPT_LINE in block:
            lines = [line.rstrip() for line in block.split(KEPT_LINE)]
            lines = [f" {line}" if line.startswith("#") else line for line in lines]
        else:
            lines = [flat for line in block.split(LINE) if (flat := _flat(line))]
        if any(lines):
            blocks.append("\n".join(lines).strip("\n"))
    return "\n\n".join(blocks)


def _flat(text: str) -> str:
    # Matches only what must change: splitting a 50 MB line into words would cost ten times its size.
    return _SPACES.sub(" ", text).strip()
