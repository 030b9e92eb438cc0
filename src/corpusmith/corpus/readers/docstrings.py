"""The docstrings of an installed package, read from its source files: nothing is imported, so nothing is run.

Two things make this more than a walk over `ast`. First, where an object lives is not what it is called:
`numpy.linalg._linalg.svd` is known as `numpy.linalg.svd`. The imports of public modules are followed to the
definitions, and an object's name is the shortest public path that leads to it; what no public path leads to is not
documentation. Second, objects written in C have no Python source. Numpy, scipy and torch attach their docstrings by
calls of `add_newdoc` and `add_docstr`, and these calls are read.
"""

from __future__ import annotations

import ast
import gc
import inspect
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SKIPPED_FOLDERS = re.compile(
    r"^(tests?|testing|test_.*|.*_tests?|testing_.*|conftest|benchmarks?|examples?|sample.*|externals?|_?vendor(ed)?|extern|deprecated|"
    r"__pycache__|array_api_.*|sphinxext|site-packages|lib2to3|idlelib|turtledemo|node_modules)$"
)
SKIPPED_MODULES = {
    "transformers.models",  # thousands of docstrings filled from a few templates
    "pydantic.v1",  # the previous version of the package
    "numpy.distutils",
    "numpy.f2py",
}
INTERNAL = {"core", "internal", "internals", "compat"}  # private by custom, though without an underscore
LARGEST_SOURCE = 4_000_000  # bytes; larger files are generated tables

Definition = tuple[str, str]
"""Where an object is defined: its module and its name therein."""


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring as written, indentation removed; `kind` is module, class, function or method."""

    name: str
    kind: str
    text: str


@dataclass(slots=True)
class _Module:
    """What one source file defines, imports and declares public."""

    docstring: str = ""
    documented: dict[str, tuple[str, str]] = field(default_factory=dict)  # "f", "C" or "C.m" -> (kind, docstring)
    members: dict[str, list[str]] = field(default_factory=dict)  # class -> its public documented methods
    bases: dict[str, list[str]] = field(default_factory=dict)  # class -> names of its base classes
    defined: set[str] = field(default_factory=set)
    imports: dict[str, Definition] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    exported: set[str] | None = None

    def document(self, path: str, kind: str, text: str) -> None:
        if path in self.documented:
            return
        self.documented[path] = (kind, text)
        owner, _, member = path.partition(".")
        if member and not member.startswith("_"):
            self.members.setdefault(owner, []).append(member)


class PackageDocstrings:
    """The documented public objects of one package (or single-file module) at `location`.

    After `collect`, `aliases` maps every public path of an object to the one it is called by.
    """

    def __init__(self, package: str, location: Path) -> None:
        self.aliases: dict[str, str] = {}
        self._paths: dict[str, Path] = dict(_module_files(package, location))
        self._modules: dict[str, _Module] = {}
        self._found: dict[Definition, Definition | None] = {}

    def collect(self) -> list[Docstring]:
        """Docstrings in the order of their names, each object once, under its shortest public path."""
        for name in self._paths:
            if name.rpartition(".")[2] in _DOCUMENTING_MODULES:
                self._attach(name)
        public = [name for name in self._paths if _is_public_module(name)]
        names: dict[Definition, list[str]] = {}
        for module in public:
            for name in sorted(self._names_of(module, set())):
                definition = self._find(module, name)
                if definition is not None and self._belongs(definition, module, name):
                    names.setdefault(definition, []).append(f"{module}.{name}")
        found = {
            module: Docstring(module, "module", self._module(module).docstring)
            for module in public
            if self._module(module).docstring
        }
        public_objects = set(names)
        for definition, paths in names.items():
            shortest = min(paths, key=lambda path: (path.count("."), len(path), path))
            self.aliases.update(dict.fromkeys(paths, shortest))
            for member, entry in self._documentation(definition, public_objects, {definition}):
                found[shortest + member] = Docstring(shortest + member, *entry)
        return [found[name] for name in sorted(found)]

    def _documentation(
        self, definition: Definition, public: set[Definition], seen: set[Definition]
    ) -> Iterator[tuple[str, tuple[str, str]]]:
        """An object's docstring and those of its methods, with what each method adds to the object's path.

        Methods inherited from a base class that is not public itself count as the class's own.
        """
        module, name = self._module(definition[0]), definition[1]
        for base in module.bases.get(name, ()):
            source = self._find(definition[0], base)
            if source is not None and source not in public and source not in seen:
                seen.add(source)
                inherited = self._documentation(source, public, seen)
                yield from ((member, entry) for member, entry in inherited if member)
        if name in module.documented:
            yield "", module.documented[name]
        for member in module.members.get(name, ()):
            yield f".{member}", module.documented[f"{name}.{member}"]

    def _belongs(self, definition: Definition, module: str, name: str) -> bool:
        """Whether `module` exports the object on purpose, rather than having imported it for its own use."""
        home, scanned = definition[0], self._module(module)
        if home == module:
            return True
        if home.startswith(module + "."):
            return scanned.exported is None or name in scanned.exported
        return not _is_public_module(home) and (name in (scanned.exported or ()) or name not in scanned.imports)

    def _module(self, name: str) -> _Module:
        if name not in self._modules:
            path = self._paths.get(name)
            self._modules[name] = _Module() if path is None else _scan(name, path)
        return self._modules[name]

    def _names_of(self, name: str, visited: set[str]) -> set[str]:
        """The public names that a module holds, those of its star imports too."""
        if name in visited or name not in self._paths:
            return set()
        visited.add(name)
        module = self._module(name)
        names = module.defined | module.imports.keys()
        for source in module.stars:
            names |= self._names_of(source, visited)
        return {name for name in names if not name.startswith("_")}

    def _find(self, module: str, name: str) -> Definition | None:
        """Where the object that `module` calls `name` is defined; None where that is outside the package."""
        key = (module, name)
        if key not in self._found:
            self._found[key] = None  # the answer while being looked for, because imports may run in circles
            self._found[key] = self._search(module, name)
        return self._found[key]

    def _search(self, module: str, name: str) -> Definition | None:
        scanned = self._module(module)
        if name in scanned.defined:
            return module, name
        if name in scanned.imports:
            source, original = scanned.imports[name]
            return self._find(source, original) if source in self._paths else None
        for source in scanned.stars:
            exported = self._module(source).exported
            if (exported is None or name in exported) and (found := self._find(source, name)):
                return found
        return None

    def _attach(self, name: str) -> None:
        """Add the docstrings that the calls in module `name` attach to objects written in C."""
        tree = _parse(self._paths[name])
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                for module, path, text in _attached(node.value, name):
                    target = self._module(module)
                    target.defined.add(path.partition(".")[0])
                    target.document(path, "method" if "." in path else "function", inspect.cleandoc(text))


_DOCUMENTING_MODULES = {"_add_newdocs", "_torch_docs", "_tensor_docs", "_storage_docs"}


def _module_files(package: str, location: Path) -> Iterator[tuple[str, Path]]:
    """Module names and files of a package, tests and vendored code left out."""
    if location.is_file():
        yield package, location
        return
    stack = [(package, location)]
    while stack:
        name, folder = stack.pop()
        if name in SKIPPED_MODULES:
            continue
        for entry in sorted(folder.iterdir()):
            if entry.suffix == ".py" and not SKIPPED_FOLDERS.match(entry.stem):
                yield (name if entry.stem == "__init__" else f"{name}.{entry.stem}"), entry
            elif entry.is_dir() and entry.name.isidentifier() and not SKIPPED_FOLDERS.match(entry.name):
                stack.append((f"{name}.{entry.name}", entry))


def _is_public_module(path: str) -> bool:
    return not any(part.startswith("_") or part in INTERNAL for part in path.split("."))


@contextmanager
def _no_cycle_search() -> Iterator[None]:
    """Without the garbage collector's search for cycles: a fifth of the parsing time, and trees have none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse(path: Path) -> ast.Module | None:
    """The syntax tree of a file, or None where it is no Python of this version."""
    try:
        if path.stat().st_size > LARGEST_SOURCE:
            return None
        with warnings.catch_warnings(), _no_cycle_search():
            warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _scan(name: str, path: Path) -> _Module:
    module = _Module()
    tree = _parse(path)
    if tree is None:
        return module
    module.docstring = ast.get_docstring(tree) or ""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in _statements(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            _scan_definition(node, module)
        elif isinstance(node, ast.ImportFrom):
            source = _import_source(node, package)
            for alias in node.names:
                if alias.name == "*":
                    module.stars.append(source)
                else:
                    module.imports[alias.asname or alias.name] = (source, alias.name)
        elif isinstance(node, (ast.Assign, ast.AugAssign)):
            _scan_assignment(node, module)
    return module


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, those inside `if`, `try` and `with` too."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With)):
                yield from _statements(getattr(node, inner, []))


def _scan_definition(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, module: _Module) -> None:
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    module.defined.add(node.name)
    if text := ast.get_docstring(node):
        module.document(node.name, kind, text)
    if isinstance(node, ast.ClassDef):
        module.bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
        for member in node.body:
            if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)) and (text := ast.get_docstring(member)):
                module.document(f"{node.name}.{member.name}", "method", text)


def _scan_assignment(node: ast.Assign | ast.AugAssign, module: _Module) -> None:
    """`__all__`, and `name = _add_docstr(..., "text")`."""
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if not isinstance(target, ast.Name):
        return
    if target.id == "__all__" and isinstance(node.value, (ast.List, ast.Tuple)):
        names = {item.value for item in node.value.elts if isinstance(item, ast.Constant)}
        module.exported = (module.exported or set()) | {name for name in names if isinstance(name, str)}
    elif target.id == "__all__" and isinstance(node, ast.Assign):
        module.exported = None  # computed when imported
    elif isinstance(node.value, ast.Call) and _called(node.value).endswith("add_docstr") and len(node.value.args) > 1:
        module.defined.add(target.id)
        module.document(target.id, "function", inspect.cleandoc(_string(node.value.args[1])))


def _import_source(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")
    base = base[: len(base) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _called(call: ast.Call) -> str:
    return _dotted(call.func).rpartition(".")[2]


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _attached(call: ast.Call, module: str) -> Iterator[tuple[str, str, str]]:
    """(module, path therein, docstring) of a call that attaches documentation."""
    name, arguments = _called(call), call.args
    if name == "add_newdoc" and len(arguments) >= 2:
        place = _string(arguments[0])
        if len(arguments) == 2:  # scipy.special: the place is the package of the file
            yield from _single(module.rpartition(".")[0], place, arguments[1])
            return
        owner, entries = _string(arguments[1]), arguments[2]
        for entry in entries.elts if isinstance(entries, ast.List) else [entries]:
            if isinstance(entry, ast.Tuple) and len(entry.elts) == 2:
                yield from _single(place, f"{owner}.{_string(entry.elts[0])}", entry.elts[1])
            else:
                yield from _single(place, owner, entry)
    elif name == "add_docstr_all" and len(arguments) == 2:
        yield from _single("torch", f"Tensor.{_string(arguments[0])}", arguments[1])
    elif name == "add_docstr" and len(arguments) == 2:
        place, _, path = _dotted(arguments[0]).rpartition(".")
        yield from _single(place, path, arguments[1])


def _single(module: str, path: str, text: ast.expr) -> Iterator[tuple[str, str, str]]:
    string = _string(text)
    if module and path.strip(".") and string:
        yield module, path, string


def _string(node: ast.expr) -> str:
    """The value of a string expression as far as it is written out; what is filled in at run time is left out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _string(node.left) + _string(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _string(node.left)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        filled = re.sub(r"(?<!\{)\{[\w.]*\}(?!\})", "", _string(node.func.value))
        return filled.replace("{{", "{").replace("}}", "}")
    if isinstance(node, ast.Call) and _called(node) in ("dedent", "cleandoc") and node.args:
        return _string(node.args[0])
    return ""
