from corpusmith.corpus.readers.docstrings import PackageDocstrings


def package_of(folder, files):
    for name, source in files.items():
        path = folder / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return PackageDocstrings("pack", folder / "pack")


def named(docstrings):
    return {docstring.name: (docstring.kind, docstring.text) for docstring in docstrings}


def test_objects_are_called_by_their_shortest_public_path(tmp_path):
    package = package_of(
        tmp_path,
        {
            "__init__.py": "'''The package.'''\nfrom .linalg import svd\nfrom ._private import *",
            "linalg/__init__.py": "from ._linalg import svd, _hidden, Matrix as M",
            "linalg/_linalg.py": (
                "def svd():\n    '''Doc.'''\ndef _hidden():\n    '''Hidden.'''\n"
                "class Matrix:\n    '''Class.'''\n    def T(self):\n        '''Method.'''"
            ),
            "_private.py": "__all__ = ['f']\ndef f():\n    '''F.'''\ndef g():\n    '''Not exported.'''",
        },
    )
    assert named(package.collect()) == {
        "pack": ("module", "The package."),
        "pack.svd": ("function", "Doc."),
        "pack.linalg.M": ("class", "Class."),
        "pack.linalg.M.T": ("method", "Method."),
        "pack.f": ("function", "F."),
    }
    assert package.aliases["pack.linalg.svd"] == "pack.svd"


def test_a_module_imported_for_own_use_does_not_lend_its_name(tmp_path):
    package = package_of(
        tmp_path,
        {"__init__.py": "", "a.py": "def f():\n    '''F.'''", "b.py": "from pack.a import f\nfrom os import path"},
    )
    assert list(named(package.collect())) == ["pack.a.f"]


def test_methods_of_a_base_class_that_is_not_public_belong_to_the_class(tmp_path):
    package = package_of(
        tmp_path,
        {
            "__init__.py": "from pack.core.frame import Frame",
            "core/frame.py": "from pack.core.base import Base\nclass Frame(Base):\n    '''Frame.'''",
            "core/base.py": "class Base:\n    def mean(self):\n        '''Mean.'''",
        },
    )
    assert named(package.collect())["pack.Frame.mean"] == ("method", "Mean.")


def test_imports_in_circles_end(tmp_path):
    package = package_of(
        tmp_path,
        {"__init__.py": "from .a import *\nfrom .b import x", "a.py": "from .b import *", "b.py": "from .a import x"},
    )
    assert package.collect() == []


def test_documentation_attached_to_objects_written_in_c(tmp_path):
    package = package_of(
        tmp_path,
        {
            "__init__.py": "from ._c import array, ndarray\nfrom . import special",
            "_c.py": "",
            "special/__init__.py": "conv = _add_docstr(_C.conv, r'''conv(x) -> y\n''' + r'''\nConvolves.''')",
            "special/_add_newdocs.py": "add_newdoc('airy', '''Airy.''')",
            "_add_newdocs.py": (
                "add_newdoc('pack._c', 'array', '''Array.''')\n"
                "add_newdoc('pack._c', 'ndarray', ('T', '''Transposed.'''))\n"
                "add_newdoc('pack._c', 'ndarray', [('a', '''A.'''), ('b', '''B {x}.'''.format(x=1))])\n"
                "add_newdoc(unknown, name, text)\n"
            ),
        },
    )
    found = named(package.collect())
    assert found["pack.array"] == ("function", "Array.")
    assert found["pack.ndarray.T"] == ("method", "Transposed.")
    assert found["pack.ndarray.b"] == ("method", "B .")
    assert found["pack.special.airy"] == ("function", "Airy.")
    assert found["pack.special.conv"][1] == "conv(x) -> y\n\nConvolves."


def test_nothing_is_run_and_broken_sources_are_passed_over(tmp_path):
    marker = tmp_path / "ran"
    package = package_of(
        tmp_path,
        {
            "__init__.py": f"'''Doc.'''\nopen({str(marker)!r}, 'w')",
            "broken.py": "def f(:",
            "two.py": "print 'Python 2'",
            "tests/test_a.py": "def f():\n    '''Test.'''",
        },
    )
    (tmp_path / "pack" / "binary.py").write_bytes(b"\xff\xfe\0")
    assert list(named(package.collect())) == ["pack"]
    assert not marker.exists()
