"""reStructuredText, as it stands in docstrings and .rst files, to plain text with '#' headings.

docutils would need the directives of every project's own Sphinx extensions to be registered; here the markup is read
line by line instead, and what is no prose is left out: doctests with their output, tables of contents, images, raw
blocks. Three ways of writing sections are understood: underlined titles (numpydoc and .rst files), Google style
("Args:" and an indented block), and field lists (":param x: ...").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import dropwhile

from corpusmith.corpus.base import Document, Dropped
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.source import SourceFile

GOOGLE_SECTIONS = {
    "args": "Parameters", "arguments": "Parameters", "parameters": "Parameters", "keyword args": "Parameters",
    "keyword arguments": "Parameters", "keyword parameters": "Parameters", "params": "Parameters",
    "inputs": "Parameters", "returns": "Returns", "return": "Returns", "outputs": "Returns", "yields": "Yields",
    "raises": "Raises",
    "example": "Examples", "examples": "Examples", "usage": "Examples", "note": "Notes", "notes": "Notes",
    "shape": "Shape", "attributes": "Attributes", "references": "References", "see also": "See Also",
    "warning": "Warnings", "warnings": "Warnings",
}  # fmt: skip
DROPPED_DIRECTIVES = {
    "autosummary", "toctree", "image", "figure", "plot", "raw", "contents", "only", "index", "testsetup", "testcleanup",
    "currentmodule", "module", "math", "doctest", "testcode", "testoutput", "table",
    "csv-table", "list-table", "automodule", "autoclass", "autofunction", "include", "ipython",
    "jupyter-execute", "try_examples", "mathtext", "graphviz", "inheritance-diagram", "tabularcolumns",
    "versionadded", "versionchanged",
}  # fmt: skip
ADMONITIONS = {
    "note": "Note:", "warning": "Warning:", "deprecated": "Deprecated since version",
    "tip": "Tip:", "important": "Important:", "caution": "Caution:", "seealso": "See also:",
    "attention": "Attention:", "hint": "Hint:", "danger": "Danger:", "rubric": "", "admonition": "", "topic": "",
}  # fmt: skip

CODE_DIRECTIVES = {"code-block", "code", "sourcecode", "literalinclude", "parsed-literal"}
DEEPEST = 50  # directives within directives; what lies deeper is taken as it stands
HEADING, CODE = "\x1d", "\x1c"  # first characters of lines already dealt with

_UNDERLINE = re.compile(r"^([=\-~^\"'`#*+.:_])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^(\s*)\.\.\s+(?:\|[^|]+\|\s+)?([\w-]+)::\s*(.*)$")
_OPTION = re.compile(r"^\s*:[\w-]+:")
_COMMENT = re.compile(r"^\s*\.\.(\s|$)(?!\s*\[)")
_FIELD = re.compile(
    r"^\s*:(param|parameter|arg|argument|key|keyword|return|returns|rtype|type|raise|raises|except|yield|yields|var|ivar|"
    r"cvar|attr)\b([^:`]*):(?:\s+(.*)|$)"
)
_RULE = re.compile(r"^[=+|\-~^*_\s]{4,}$")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,2}[.)]|#\.)\s+\S|^\s*\*{0,2}[\w.]+\s*(?:\(.*?\)\s*:| : )")
_TERM = re.compile(r"^[^.:]{1,80}$|^[\w*., `\[\]]{1,60} : .{0,160}[^.]$")
_MARKUP = re.compile(r"[`*|_%$<{\\]")  # every pattern below needs one of these
_INLINE: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # :func:`x`, :ref:`text <target>`; a run of words and colons is looked at once, from its beginning
    (
        re.compile(r"(?<![\w:+-])([\w+-]*+):[\w:+-]{2,}+(?<=:)`~?([^`<]*+)(?:<[^`>]*+>)?`"),
        lambda match: match[1] + match[2].rstrip(),
    ),
    (re.compile(r"``(.+?)``"), r"\1"),
    (re.compile(r"\[`~?([^`\]]+)`\](?:\([^)\s\[]*+\))?"), r"\1"),  # [`Name`] of Hugging Face's docs
    (re.compile(r"`([^`<]++)<[^`>]*+>`__?"), lambda match: match[1].rstrip()),
    (re.compile(r"`[~!]?([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*\s](?:[^*]*[^*\s])?)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s](?:[^*]*[^*\s])?)\*(?![\w*])"), r"\1"),
    (re.compile(r"\s?\[[#\w]+\]_"), ""),  # [1]_
    (re.compile(r"\|(\w+)\|_{0,2}"), r"\1"),
    (re.compile(r"%\(\w[\w.:]*\)s|\$[A-Z][A-Z_0-9]+\b|\{\w*\}(?=\s*$)"), ""),  # templates filled in at import
    (re.compile(r"\\(?:([*_`|\\ ])|(?=s\b))"), r"\1"),
    (re.compile(r"</?(?:Tip|tip|hfoption|hfoptions|br|p|a|b|i|code|em|strong)\b[^<>]*>"), ""),
)


def read_restructured(file: SourceFile, config: CorpusConfig) -> Iterator[Document | Dropped]:
    """An .rst file as one document; its first section title is the document's title."""
    source, damage = file.text()
    text = restructured_to_text(source, keep_code=True)
    title = ""
    if text.startswith("# "):
        first, _, text = text.partition("\n")
        title = first[2:]
    yield Document(id=file.id, title=title, text=text.strip("\n"), metadata={"path": file.id})
    if damage:
        yield file.dropped(f"{damage}; what came before is kept")


def restructured_to_text(source: str, keep_code: bool = False) -> str:
    """Plain text: paragraphs joined into one line each and parted by blank lines, sections as '#' lines.

    `keep_code` keeps literal and code blocks (as they stand, line by line); doctests go in any case.
    """
    lines = list(_without_blocks(source.expandtabs().split("\n"), keep_code))
    paragraphs = _paragraphs(_with_headings(lines))
    return "\n\n".join(_without_empty_sections(paragraphs))


def plain_inline(text: str) -> str:
    """Text without roles, emphasis, references and left-over templates."""
    if _MARKUP.search(text):
        for pattern, replacement in _INLINE:
            text = pattern.sub(replacement, text)
    return text.strip()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_blank(line: str) -> bool:
    return not line.strip()


def _block_end(lines: list[str], start: int, indent: int) -> int:
    """The index behind the lines from `start` on that are blank or indented by more than `indent`."""
    while start < len(lines) and (not lines[start].strip() or _indent(lines[start]) > indent):
        start += 1
    return start


def _without_blocks(lines: list[str], keep_code: bool, depth: int = 0) -> Iterator[str]:
    """Lines without directives, comments, doctests and, unless kept, code; `depth` directives are around them."""
    if depth == DEEPEST:
        yield from lines
        return
    at = 0
    while at < len(lines):
        line = lines[at]
        stripped = line.strip()
        if stripped.startswith(">>>"):
            while at < len(lines) and lines[at].strip():
                at += 1
            continue
        if stripped.startswith("```"):
            end = next((i for i in range(at + 1, len(lines)) if lines[i].strip().startswith("```")), len(lines))
            yield from _code(lines[at + 1 : end], keep_code)
            at = end + 1
            continue
        directive = _DIRECTIVE.match(line)
        if directive or _COMMENT.match(line):
            end = _block_end(lines, at + 1, _indent(line))
            if directive:
                yield from _directive(directive, lines[at + 1 : end], keep_code, depth)
            at = end
        elif stripped.endswith("::"):
            end = _block_end(lines, at + 1, _indent(line))
            if stripped != "::":
                yield line.rstrip()[:-1]
            yield from _code(lines[at + 1 : end], keep_code)
            at = end
        else:
            yield line
            at += 1


def _code(lines: list[str], keep: bool) -> Iterator[str]:
    yield ""
    if keep:
        indent = min((_indent(line) for line in lines if line.strip()), default=0)
        yield from (CODE + line[indent:].rstrip() for line in lines)
        yield ""


def _directive(match: re.Match[str], block: list[str], keep_code: bool, depth: int) -> Iterator[str]:
    margin, name, argument = match[1], match[2].lower(), match[3]
    block = list(dropwhile(_OPTION.match, block))
    if name in CODE_DIRECTIVES:
        yield from _code(block, keep_code)
    elif name not in DROPPED_DIRECTIVES:
        yield ""
        indent = min((_indent(line) for line in block if line.strip()), default=0)
        lines = [margin + line[indent:] for line in dropwhile(_is_blank, block)]
        lead = " ".join(part for part in (ADMONITIONS.get(name, ""), argument) if part)
        if lead and name in ADMONITIONS:
            # In one line with what follows: on its own "Note:" would be a section's title.
            lines[:1] = [margin + lead.rstrip(":") + ": " + line.strip() for line in lines[:1] or [""]]
        yield from _without_blocks(lines, keep_code, depth + 1)
        yield ""


def _with_headings(lines: list[str]) -> Iterator[str]:
    """Section titles as '#' lines with no indent; a style of underlining has the level of its first appearance."""
    styles: list[str] = []
    at = 0
    while at < len(lines):
        line, below = lines[at], lines[at + 1].strip() if at + 1 < len(lines) else ""
        stripped = line.strip()
        google = GOOGLE_SECTIONS.get(stripped[:-1].lower()) if stripped.endswith(":") else None
        if stripped and _UNDERLINE.match(below) and not _UNDERLINE.match(stripped) and len(below) >= len(stripped) // 2:
            if below[0] not in styles:
                styles.append(below[0])
            level = min(styles.index(below[0]) + 1, 6)
            yield from ("", f"{HEADING}{'#' * level} {plain_inline(stripped.rstrip(':'))}", "")
            at += 2
            continue
        if google:
            yield from ("", f"{HEADING}# {google}", "")
        elif not _RULE.match(stripped):
            yield line
        at += 1


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    """Lines joined: a blank line, a smaller indent, a list item, a field or a parameter begins a new paragraph."""
    current: list[str] = []
    indent = 0
    for line in lines:
        stripped = line.strip()
        field = _FIELD.match(line)
        begins = not stripped or line[0] in HEADING + CODE or field or _ITEM.match(line) or _indent(line) < indent
        if begins and current:
            yield plain_inline(" ".join(current))
            current = []
        if not stripped:
            continue
        if line[0] in HEADING + CODE:
            yield line if line[0] == HEADING else line.rstrip()
            continue
        if field:
            stripped = _field_text(field)
        if current and _indent(line) > indent and len(current) == 1 and _TERM.match(current[0]):
            current[0] += "." if " : " in current[0] else ":"
        indent = _indent(line)
        current.append("- " + stripped[3:] if stripped.startswith("#. ") else stripped)
    if current:
        yield plain_inline(" ".join(current))


def _field_text(field: re.Match[str]) -> str:
    """ ":param x: text" as "x: text"; ":return: text" as "Returns: text"."""
    name = field[2].split()[-1] if field[2].strip() else ""
    lead = name or {"return": "Returns", "returns": "Returns", "rtype": "Return type"}.get(field[1], field[1])
    return f"{lead}: {field[3] or ''}".strip()


def _without_empty_sections(paragraphs: Iterator[str]) -> Iterator[str]:
    """Headings without anything below them are left out; consecutive lines of code become one block."""
    waiting: list[str] = []
    code: list[str] = []
    for paragraph in (*paragraphs, HEADING):
        if paragraph.startswith(CODE):
            code.append(" " + paragraph[1:] if paragraph.startswith(CODE + "#") else paragraph[1:])
            continue
        if code:
            yield from waiting
            yield "\n".join(code).rstrip()
            waiting, code = [], []
        if paragraph.startswith(HEADING):
            level = paragraph.count("#", 0, 8)
            waiting = [heading for heading in waiting if heading.count("#", 0, 7) < level]
            waiting.append(paragraph[1:])
        elif paragraph:
            yield from waiting
            yield " " + paragraph if re.match(r"#{1,6}\s", paragraph) else paragraph
            waiting = []
