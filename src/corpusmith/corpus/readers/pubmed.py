"""Biomedical XML: PubMed citations and books, and JATS full text (PubMed Central).

A PubMed file holds 30,000 articles; it is parsed event by event and every finished article is taken out of the tree, so
memory stays that of one article. Entities are not expanded and nothing is fetched (a DTD named in the file is ignored),
so the file cannot blow up or reach out. Element names are compared without their namespace.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any, BinaryIO

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.source import SourceFile, Unreadable, read_piece, too_large

RECORDS = ("PubmedArticle", "PubmedBookArticle", "article")
NOT_PROSE = {
    "table", "tex-math", "object-id", "graphic", "media", "alternatives", "sub-article", "response", "label",
    "supplementary-material",
}  # fmt: skip


def read_pubmed(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """Documents of a PubMed or JATS file: ids are PMIDs (else PMC ids, DOIs, else `path#n`); references become links.

    What is read before damage in the file is kept; XML of another kind is dropped.
    """
    from lxml import etree

    with file.open() as raw:
        stream = _Bounded(raw, file.limit)
        events = etree.iterparse(
            stream, events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True
        )
        number, root = 0, ""
        others: list[tuple[str, int]] = []  # what is called like a record and is none, with its line
        try:
            for event, element in events:
                name = _name(element)
                root = root or name
                if event == "start" or name not in RECORDS or _is_nested(element):
                    continue
                document = _jats(element, file) if name == "article" else _citation(element, file)
                line = element.sourceline
                _release(element)
                stream.taken = 0
                if document is None:
                    others.append((name, line))
                if number or document is not None:
                    for kind, place in others:
                        yield file.dropped(_incomplete(kind), f"line {place}", id=f"{file.id}#{place}")
                    others.clear()
                if document is not None:
                    number += 1
                    yield document if document.id else _numbered(document, file, number)
        except (etree.XMLSyntaxError, ValueError) as error:
            raise Unreadable(_damage(error, number) if stream.taken_in_all else "empty") from None
    if number == 0:
        raise Unreadable(f"XML of another kind (<{root}>) than PubMed or JATS")


def _incomplete(name: str) -> str:
    missing = {"article": "front with article-meta", "PubmedArticle": "MedlineCitation with Article"}
    return f"<{name}> without {missing.get(name, 'BookDocument')}"


class _Bounded:
    """A stream that ends with an error once more than `limit` bytes were read since `taken` was last set to 0."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self.stream, self.limit, self.taken, self.taken_in_all = stream, limit, 0, 0

    def read(self, size: int = 65536) -> bytes:
        chunk = read_piece(self.stream, min(size, 65536)) if size > 0 else b""
        self.taken += len(chunk)
        self.taken_in_all += len(chunk)
        if self.taken > self.limit:
            raise Unreadable(f"an element is {too_large(self.limit)}")
        return chunk


def _damage(error: BaseException, number: int) -> str:
    kept = f"; the {number} articles before it are kept" if number else ""
    return f"damaged XML: {' '.join(str(error).split())[:200]}{kept}"


def _name(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _is_nested(element: Any) -> bool:
    return any(_name(ancestor) in RECORDS for ancestor in element.iterancestors())


def _release(element: Any) -> None:
    """Free a finished article and everything before it."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _numbered(document: Document, file: SourceFile, number: int) -> Document:
    return Document(f"{file.id}#{number}", document.title, document.text, document.metadata, document.links)


def _find(element: Any, *names: str) -> Any | None:
    """The first descendant reached by stepping from child to child by `names`, whatever their namespaces."""
    for name in names:
        element = next((child for child in element if _name(child) == name), None)
        if element is None:
            return None
    return element


def _all(element: Any | None, *names: str) -> list[Any]:
    return [] if element is None else [node for node in element.iter() if _name(node) in names]


def _text(element: Any | None) -> str:
    """The element's text in one line, without what is no prose; entities the file's DTD would define are decoded."""
    return "" if element is None else " ".join("".join(_pieces(element)).split())


def _pieces(element: Any) -> Iterator[str]:
    # An explicit stack: documents nested deeper than Python's call stack exist.
    stack: list[Any] = [element]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
            continue
        if not isinstance(node.tag, str):  # a comment, a processing instruction, an entity reference
            yield html.unescape(node.text or "") if str(node).startswith("&") else ""
        elif _name(node) not in NOT_PROSE:
            yield node.text or ""
            for child in reversed(node):
                stack += [child.tail or "", child]


def _citation(element: Any, file: SourceFile) -> Document | None:
    """A PubmedArticle or PubmedBookArticle: title, abstract with its labelled sections, journal, year, references."""
    citation = _find(element, "MedlineCitation")
    body = _find(element, "BookDocument") if citation is None else _find(citation, "Article")
    if body is None:
        return None
    pmid = _text(_find(element if citation is None else citation, "PMID")) or _text(_find(body, "PMID"))
    title = _text(_find(body, "ArticleTitle")) or _text(_find(body, "Book", "BookTitle"))
    abstract = _find(body, "Abstract")
    sections = []
    for part in _all(abstract, "AbstractText"):
        label = (part.get("Label") or "").strip()
        text = _text(part)
        if text:
            sections.append(f"# {_caption(label)}\n\n{text}" if label and label != "UNLABELLED" else text)
    references = [_text(node) for node in _all(element, "ArticleId") if _is_reference(node)]
    journal = _text(_find(body, "Journal", "Title")) or _text(_find(body, "Book", "BookTitle"))
    dates = _all(_find(body, "Journal", "JournalIssue", "PubDate"), "Year", "MedlineDate")
    dates = dates or _all(_find(body, "Book", "PubDate"), "Year")
    metadata = {"pmid": pmid, "journal": journal, "year": _text(dates[0])[:4] if dates else "", "path": file.id}
    return Document(
        id=pmid,
        title=title.strip("[]").rstrip("."),
        text="\n\n".join(sections),
        metadata={key: value for key, value in metadata.items() if value},
        links=tuple(dict.fromkeys(reference for reference in references if reference)),
    )


def _is_reference(node: Any) -> bool:
    return node.get("IdType") == "pubmed" and any(_name(above) == "Reference" for above in node.iterancestors())


def _caption(label: str) -> str:
    return label.capitalize() if label.isupper() else label


def _jats(element: Any, file: SourceFile) -> Document | None:
    """A JATS article: title, abstract and body with their sections as headings; None where it has no JATS front."""
    meta = _find(element, "front", "article-meta")
    if meta is None:
        return None
    ids = {node.get("pub-id-type"): _text(node) for node in meta if _name(node) == "article-id"}
    pmc = ids.get("pmcid") or ids.get("pmc") or ""
    parts: list[str] = []
    for abstract in (node for node in meta if _name(node) == "abstract" and node.get("abstract-type") is None):
        parts += _sections(abstract)
    body = _find(element, "body")
    if body is not None:
        parts += _sections(body)
    journal_meta = _find(element, "front", "journal-meta")
    journal = next((_text(node) for node in _all(journal_meta, "journal-title")), "")
    year = next((_text(_find(node, "year")) for node in meta if _name(node) == "pub-date"), "")
    references = [_text(node) for node in _all(_find(element, "back"), "pub-id") if node.get("pub-id-type") == "pmid"]
    metadata = {"pmid": ids.get("pmid", ""), "pmc": pmc, "doi": ids.get("doi", ""), "journal": journal, "year": year}
    return Document(
        id=ids.get("pmid") or pmc or ids.get("doi") or "",
        title=_text(_find(meta, "title-group", "article-title")),
        text="\n\n".join(parts),
        metadata={key: value for key, value in {**metadata, "path": file.id}.items() if value},
        links=tuple(dict.fromkeys(reference for reference in references if reference)),
    )


def _sections(top: Any) -> list[str]:
    """Paragraphs of an abstract or body in order, each section's title before them as a '#' line of its depth."""
    parts: list[str] = []
    stack: list[tuple[Any, int]] = [(child, 1) for child in reversed(top)]
    while stack:
        node, depth = stack.pop()
        name = _name(node)
        if name == "sec":
            stack += [(child, depth + 1) for child in reversed(node)]
        elif name == "title":
            if text := _text(node):
                parts.append("#" * max(1, min(depth - 1, 6)) + " " + text)
        elif name and name not in NOT_PROSE and (text := _text(node)):
            parts.append(text)
    return parts
