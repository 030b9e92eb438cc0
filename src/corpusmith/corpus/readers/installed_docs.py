"""The corpus that every machine already has: the documentation of the Python packages installed on it.

Thousands of pages of technical prose, read from source files without importing anything (see `docstrings.py`), with
relevance judgements that nobody made for a benchmark: a summary line describes exactly one object, and a See Also
section is an author's list of related ones.

What the documents keep and lose: sections become '#' headings, roles and directives become words, doctests go. See Also
sections leave the text of *every* document and survive as `links`: their entries quote the summary lines of other
objects, which are the test queries.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import xxhash

from corpusmith.corpus.base import Document
from corpusmith.corpus.config import CorpusConfig
from corpusmith.corpus.readers.docstrings import Docstring, PackageDocstrings
from corpusmith.corpus.readers.restructured import restructured_to_text
from corpusmith.errors import CorpusError

DEFAULT_PACKAGES = (
    "numpy", "scipy", "sklearn", "pandas", "torch", "matplotlib", "sympy", "networkx", "statsmodels", "skimage",
    "xarray", "transformers", "sentence_transformers", "tokenizers", "datasets", "huggingface_hub", "safetensors",
    "nltk", "numba", "pyarrow", "mpmath", "joblib", "PIL", "lxml", "jinja2", "pydantic", "click", "typer", "rich",
    "httpx", "requests", "flask", "fastapi", "django", "sqlalchemy", "hypothesis", "pytest", "setuptools", "packaging",
    "stdlib",
)  # fmt: skip
SKIPPED_STDLIB = {"test", "idlelib", "lib2to3", "turtledemo", "this", "antigravity", "pydoc_data", "ensurepip"}
MINIMUM_WORDS = 30
LONGEST_SUMMARY_WORDS = 60
KNOWN_ITEMS, SEE_ALSO = 300, 200
"""Queries of the demonstration, by kind, at most."""
SHORTEST_QUERY = 5  # words; also the longest run of words that a masked text may share with its query, plus one
ABBREVIATIONS = {"np": "numpy", "pd": "pandas", "nx": "networkx", "plt": "matplotlib.pyplot", "nn": "torch.nn"}

_SEE_ALSO = re.compile(
    r"^[ ]*see[ ]also[ ]*\n[ ]*[-=~^]{3,}[ ]*\n(.*?)(?=^[^\n]*\S[^\n]*\n[ ]*[-=~^]{3,}[ ]*$|^[ ]*\.\. (?!\[)|\Z)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_SEE_ALSO_DIRECTIVE = re.compile(r"^([ ]*)\.\. seealso::(.*\n(?:[ ]*\n|\1[ ]+.*(?:\n|\Z))*)", re.MULTILINE)
_GOOGLE_SEE_ALSO = re.compile(r"^([ ]*)see also:[ ]*(.*(?:\n|\Z)(?:\1[ ]+.*(?:\n|\Z))*)", re.MULTILINE | re.IGNORECASE)
_METHODS = re.compile(r"^# Methods\n\n(?:(?!# ).*(?:\n|\Z))*", re.MULTILINE)  # a table of contents, not prose
_ROLE = re.compile(r":[\w:]+:`[~!]?([\w.]+)(?:\(\))?`")
_NAMES = re.compile(r"^[~!]?`?([A-Za-z_][\w.]*)`?(?:\(\))?$")
_SIGNATURE = re.compile(r"^\s*(?:[\w.]+\s*=\s*)?[\w., ]*[\w.]+\(.*\)\s*(?:->.*)?$|^\s*\S+\(.*\)\s*->.*$")


def read_installed_docs(config: CorpusConfig) -> Iterator[Document]:
    """One document for each public module, class, function and method with at least 30 words of documentation.

    `id` and `title` are the qualified name; `metadata` holds package, kind, summary (the docstring's first sentence or
    line) and see_also; `links` are the ids of the See Also list. Exact repetitions of a text keep the first. With
    `config.maximum_documents` that many are drawn by the hash of their ids, each with the documents of its See Also
    list, which a plain draw would tear apart. Raises CorpusError where a package named in the recipe is not installed.
    """
    documents, aliases = _documents(config)
    resolver = _Resolver(list(documents), aliases)
    links = {id: resolver.resolve_all(id, document.metadata["see_also"]) for id, document in documents.items()}
    drawn = _draw(links, config.maximum_documents)
    for id, document in documents.items():
        if id in drawn:
            present = tuple(link for link in links[id] if link in drawn)
            yield dataclasses.replace(document, links=present)


def _draw(links: Mapping[str, Sequence[str]], number: int | None) -> Set[str]:
    """Ids in the order of their hashes, each followed by what its See Also names, until there are `number`."""
    if number is None or number >= len(links):
        return links.keys()
    drawn: dict[str, None] = {}
    for id in sorted(links, key=lambda id: xxhash.xxh64_intdigest(id.encode())):
        drawn.update(dict.fromkeys((id, *links[id])))
        if len(drawn) >= number:
            break
    return set(list(drawn)[:number])


def _documents(config: CorpusConfig) -> tuple[dict[str, Document], dict[str, str]]:
    """All documents by id, ordered within their package, links not yet resolved; and other names of their objects."""
    documents: dict[str, Document] = {}
    aliases: dict[str, str] = {}
    texts: set[int] = set()
    for package, module, location in locate(config.packages):
        source = PackageDocstrings(module, location)
        for docstring in source.collect():
            document = document_of(docstring, package)
            if document is None or document.id in documents:
                continue
            fingerprint = xxhash.xxh64_intdigest(document.text.encode("utf-8", "replace"))
            if fingerprint not in texts:
                texts.add(fingerprint)
                documents[document.id] = document
        aliases.update(source.aliases)
    return documents, aliases


def locate(packages: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
    """(package, top module, folder or file) of each package asked for, found without importing it."""
    for package in packages or DEFAULT_PACKAGES:
        if package == "stdlib":
            yield from _locate_stdlib()
            continue
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is not None and spec.submodule_search_locations:
            yield package, package, Path(next(iter(spec.submodule_search_locations)))
        elif spec is not None and spec.origin and spec.origin.endswith(".py"):
            yield package, package, Path(spec.origin)
        elif packages:
            raise CorpusError(
                f"package '{package}' is not installed here: pip install it, or take it out of corpus.packages"
            )


def _locate_stdlib() -> Iterator[tuple[str, str, Path]]:
    root = Path(sysconfig.get_path("stdlib"))
    for module in sorted(sys.stdlib_module_names - SKIPPED_STDLIB):
        if module.startswith("_"):
            continue
        if (root / module).is_dir():
            yield "stdlib", module, root / module
        elif (root / f"{module}.py").is_file():
            yield "stdlib", module, root / f"{module}.py"


def document_of(docstring: Docstring, package: str) -> Document | None:
    """The docstring as a document, or None where it is too short to say anything."""
    source, see_also = split_see_also(_without_signature(docstring.text))
    text = _METHODS.sub("", restructured_to_text(source)).strip()
    if len(text.split()) < MINIMUM_WORDS:
        return None
    return Document(
        id=docstring.name,
        title=docstring.name,
        text=text,
        metadata={
            "package": package,
            "kind": docstring.kind,
            "summary": summary_of(text),
            "see_also": see_also,
        },
    )


def summary_of(text: str) -> str:
    """The first sentence of the first paragraph, or "" where the text begins with something else."""
    first = text.partition("\n")[0].strip()
    if first.startswith("#"):
        return ""
    sentence = re.match(r"(.+?[.!?])(?=\s+[A-Z(`\"']|\s*$)", first)
    summary = sentence[1] if sentence else first
    return summary if len(summary.split()) <= LONGEST_SUMMARY_WORDS else ""


def _without_signature(text: str) -> str:
    """Docstrings of C functions begin with their signature, one or several lines of it."""
    lines = text.lstrip("\n").split("\n")
    while lines and (not lines[0].strip() or _SIGNATURE.match(lines[0])):
        lines.pop(0)
    return "\n".join(lines)


def split_see_also(text: str) -> tuple[str, list[str]]:
    """(text without its See Also sections, names listed in them)."""
    names: list[str] = []

    def take_section(match: re.Match[str]) -> str:
        names.extend(_listed_names(match[1]))
        return ""

    def take_inline(match: re.Match[str]) -> str:
        roles = _ROLE.findall(match[2])
        names.extend(roles or _listed_names(match[2]))
        return ""

    text = _SEE_ALSO.sub(take_section, text)
    text = _SEE_ALSO_DIRECTIVE.sub(take_inline, text)
    text = _GOOGLE_SEE_ALSO.sub(take_inline, text)
    return text, list(dict.fromkeys(names))


def _listed_names(section: str) -> Iterator[str]:
    """Names in numpydoc's See Also form: "a, b : what they do", descriptions possibly indented below."""
    lines = [line for line in section.split("\n") if line.strip()]
    margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    for line in lines:
        if len(line) - len(line.lstrip()) > margin:
            continue
        listed = _ROLE.sub(r"\1", re.split(r"\s:|:\s|:$|\s--?\s", line.strip())[0])
        for part in listed.split(","):
            if match := _NAMES.match(part.strip()):
                yield match[1].rstrip(".")


class _Resolver:
    """Finds the documents that names in See Also lists mean, as Sphinx would: from the nearest scope outwards."""

    def __init__(self, ids: Sequence[str], aliases: dict[str, str]) -> None:
        self.ids = set(ids)
        self.aliases = aliases
        self.by_tail: dict[tuple[str, str], list[str]] = {}
        for id in ids:
            package, *rest = id.split(".")
            for start in range(len(rest)):
                self.by_tail.setdefault((package, ".".join(rest[start:])), []).append(id)

    def resolve_all(self, origin: str, names: Sequence[str]) -> tuple[str, ...]:
        resolved = (self.resolve(origin, name) for name in names)
        return tuple(dict.fromkeys(id for id in resolved if id is not None and id != origin))

    def resolve(self, origin: str, name: str) -> str | None:
        head, dot, tail = name.partition(".")
        name = ABBREVIATIONS.get(head, head) + dot + tail
        scopes = origin.split(".")
        for depth in range(len(scopes), -1, -1):
            path = ".".join([*scopes[:depth], name])
            path = self.aliases.get(path, path)
            if path in self.ids and path != origin:
                return path
        candidates = self.by_tail.get((scopes[0], name), ())
        return candidates[0] if len(candidates) == 1 else None


@dataclass(frozen=True)
class DemonstrationQueries:
    """Test queries over the installed documentation, and the documents as they must be indexed to keep them honest.

    `queries` maps query ids to texts, `qrels` to graded relevant documents, `kinds` to "known-item" or "see-also",
    `excluded` to documents that are left out of that query's ranking (the object the query itself describes).
    `masked` holds every held-out object's document without its summary line, its name and its links: it takes the place
    of the document of the same id, for training as well as for the index.
    """

    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    kinds: dict[str, str]
    excluded: dict[str, tuple[str, ...]]
    masked: dict[str, Document]


def demonstration_queries(
    documents: Sequence[Document], seed: int, number: int = KNOWN_ITEMS, number_see_also: int = SEE_ALSO
) -> DemonstrationQueries:
    """Up to `number` known-item and `number_see_also` see-also queries, drawn by `seed` from documents of this reader.

    Known-item: the query is an object's summary line, and its own document, masked, is the one relevant. See-also: the
    same query, the object itself out of the ranking, and relevant are the objects of its See Also list (at least two
    of them in `documents`). Only summaries of at least five words make a query that do not hold the object's name, that
    describe no other object, and of which no five words in a row are left in the masked text; an object makes at most
    one query.
    """
    held_out = _held_out(documents)
    draw = random.Random(seed)
    ids = {document.id for document in documents}
    relevant = {id: [link for link in document.links if link in ids] for id, (document, _, _) in held_out.items()}
    see_also = sorted(id for id in held_out if len(relevant[id]) >= 2)
    see_also = draw.sample(see_also, min(number_see_also, len(see_also)))
    known = sorted(held_out.keys() - set(see_also))
    known = draw.sample(known, min(number, len(known)))
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    kinds: dict[str, str] = {}
    excluded: dict[str, tuple[str, ...]] = {}
    for kind, drawn in (("known-item", known), ("see-also", see_also)):
        for id in sorted(drawn):
            query_id = f"{kind}:{id}"
            queries[query_id] = held_out[id][1]
            kinds[query_id] = kind
            qrels[query_id] = {id: 1} if kind == "known-item" else dict.fromkeys(relevant[id], 1)
            excluded[query_id] = () if kind == "known-item" else (id,)
    masked = {id: held_out[id][2] for id in sorted([*known, *see_also])}
    return DemonstrationQueries(queries, qrels, kinds, excluded, masked)


def _held_out(documents: Sequence[Document]) -> dict[str, tuple[Document, str, Document]]:
    """Objects that can make a query: id -> (document, query, masked document)."""
    described = Counter(" ".join(_words(document.metadata["summary"])) for document in documents)
    candidates: dict[str, tuple[Document, str, Document]] = {}
    for document in documents:
        summary = document.metadata["summary"]
        words = _words(summary)
        if (
            document.metadata["kind"] == "module"
            or min(len(words), len(summary.split())) < SHORTEST_QUERY
            or described[" ".join(words)] > 1
        ):
            continue
        if "\\" in summary or without_name(summary, document.id) != summary:
            continue
        masked = mask(document)
        if len(masked.text.split()) >= MINIMUM_WORDS and not _shingles(summary) & _shingles(masked.text):
            candidates[document.id] = (document, summary.rstrip("."), masked)
    return candidates


def mask(document: Document) -> Document:
    """The document without title, links, summary line, and its object's name wherever the text mentions it."""
    text = document.text.removeprefix(document.metadata["summary"]).lstrip()
    metadata = {key: document.metadata[key] for key in ("package", "kind")}
    return Document(document.id, "", without_name(text, document.id), metadata)


def without_name(text: str, qualified_name: str) -> str:
    """`text` without the last component of `qualified_name`, in any case, and what qualifies it ("np.linalg.svd");
    "k_core" is also found as "k-core"."""
    name = re.escape(qualified_name.rpartition(".")[2]).replace("_", "[_-]")
    text = re.sub(rf"(?<!\w)(?:\w+\.)*{name}(?!\w)(?:\(\))?", "", text, flags=re.IGNORECASE)
    return re.sub(r" {2,}", " ", re.sub(r" +(?=[,.;:)\n])", "", text)).strip()


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[start : start + SHORTEST_QUERY]) for start in range(len(words) - SHORTEST_QUERY + 1)}
